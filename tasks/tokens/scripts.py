"""The Lua scripts in lua/, each run atomically on the keys of one partner."""

from functools import cache
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from .keys import PartnerKeys

_FOLDER = Path(__file__).with_name("lua")


class Scripts:
    """Runs scripts by name for one partner; answers are as Redis gives them, texts as bytes."""

    def __init__(self, redis: Redis, keys: PartnerKeys) -> None:
        self._redis = redis
        self._keys = keys.for_scripts
        self._scripts: dict[str, AsyncScript] = {}

    async def server_seconds(self) -> float:
        """The Redis server's clock, in seconds since 1970. Raises redis.RedisError."""
        return int(await self.run("server_time")) / 1e6

    async def run(self, name: str, *arguments: str | bytes | float) -> Any:  # noqa: ANN401
        """Run lua/<name>.lua with ARGV = arguments. Raises redis.RedisError."""
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self._redis.register_script(_source(name))
        return await script(keys=self._keys, args=arguments)


@cache
def _source(name: str) -> str:
    prelude = (_FOLDER / "prelude.lua").read_text(encoding="utf-8")
    return prelude + (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
