"""The Lua scripts in lua/, each run atomically on the keys of one partner."""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ResponseError

from .keys import PartnerKeys

_FOLDER = Path(__file__).with_name("lua")


class Scripts:
    """Runs scripts by name for one partner; answers are as Redis gives them, texts as bytes."""

    def __init__(self, redis: Redis, keys: PartnerKeys) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts: dict[str, AsyncScript] = {}

    async def server_seconds(self) -> float:
        """The Redis server's clock, in seconds since 1970. Raises redis.RedisError."""
        return int(await self.run("server_time")) / 1e6

    async def run(self, name: str, *arguments: str | bytes | float) -> Any:  # noqa: ANN401
        """Run lua/<name>.lua with ARGV = arguments. Raises redis.RedisError."""
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self._redis.register_script(_source(name))
        try:
            return await script(keys=self._keys.for_scripts, args=arguments)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            hashes = {self._keys.run(str(argument)) for argument in arguments[:1]}
            hashes |= {self._keys.state(str(argument)) for argument in arguments}
            told = await misplaced(self._redis, self._keys, hashes)
            raise ResponseError(f"{name}: {told or error}") from None


async def misplaced(redis: Redis, keys: PartnerKeys, hashes: Collection[str] = ()) -> str:
    """The keys that hold what is not ours, and the remedy; empty if none does. Asks Redis."""
    types = keys.types | dict.fromkeys(hashes, "hash")
    async with redis.pipeline(transaction=False) as pipe:
        for key in types:
            pipe.type(key)
        found = [kind.decode() for kind in await pipe.execute()]
    told = [
        f"{key} is of type {kind}, not {wanted}"
        for (key, wanted), kind in zip(types.items(), found, strict=True)
        if kind not in {wanted, "none"}
    ]
    if not told:
        return ""
    return (
        f"{'; '.join(told)}: delete what stands there, or restore it; accounts that are lost by it "
        "come back by subtokens accounts discover or import"
    )


@cache
def _source(name: str) -> str:
    prelude = (_FOLDER / "prelude.lua").read_text(encoding="utf-8")
    return prelude + (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
