"""The fleet keeps itself fresh: `celery -A subtokens.workers beat` and a worker."""

from collections.abc import Callable

from .conftest import Site, Upstream, account_ids, await_ready, eventually, rounds_told


def test_discovered_accounts_get_and_renew_their_tokens_with_nobody_asking(
    new_site: Callable[..., Site],
) -> None:
    accounts = account_ids(1, 30)
    # A lifetime so short that everything is renewed while we look.
    with Upstream(accounts=30, lifetime_seconds=3) as upstream:
        site = new_site(upstream.base_url)
        beat, worker = site.celery("beat", "beat", "--loglevel=INFO"), site.worker("worker")
        await_ready(worker)
        assert site.cli("accounts", "discover").code == 0
        reader = site.reader()

        def generations() -> set[int]:
            found = reader.get_many(accounts)
            return {record.generation for record in found.values()} if len(found) == 30 else set()

        first = eventually(generations, told=worker.said)
        eventually(lambda: (now := generations()) and min(now) > max(first), told=worker.said)
        reader.close()
        served = [call for call in upstream.calls() if call.kind == "exchange"]
        assert {call.status for call in served} == {200}
        beat.stop()
        assert "Traceback" not in beat.said() + worker.said()
        assert not rounds_told(beat, worker)
        assert "accounts.renewed" in worker.said()  # one line for each batch
    assert not list(site.folder.iterdir())
