"""A simulator may serve millions of requests: what it remembers of them is bounded."""

from claude_executor.simulator.audit.audit import ClientAudit
from claude_executor.simulator.messages.errors import ErrorResponse
from claude_executor.simulator.messages.prompt_cache import PromptCache
from claude_executor.simulator.messages.prompts import CacheMark, Prompt


def test_memory_stays_flat():
    """Old matters are dropped and counted; recent ones are still judged, and so is what was dropped."""
    audit = ClientAudit(most_open=100, generation=1_000)
    lost = ErrorResponse(500, "api_error", "", "error_500")
    final = ErrorResponse(400, "invalid_request_error", "", "invalid_request", permanent=True)

    def send(identity: str) -> None:
        audit.arrived(identity, "haiku", 0.0, outage=False)

    send("running")
    for number in range(5_000):
        send(f"answered {number}")
        audit.answered(f"answered {number}", 0.0)
        send(f"final {number}")
        audit.refused(f"final {number}", "haiku", final, 0.0)
        send(f"lost {number}")
        audit.refused(f"lost {number}", "haiku", lost, 0.0)
    for _ in range(3):
        send("answered 4999")
        audit.answered("answered 4999", 0.0)
        send("final 4999")
        audit.refused("final 4999", "haiku", final, 0.0)
    audit.answered("running", 0.0)
    verdict = audit.verdict({}, lambda pool: False)
    assert verdict.findings == {"duplicates": 3, "forbidden_retries": 3, "given_up": 5_000}
    assert (verdict.identities, verdict.answered, verdict.most_attempts) == (15_001, 5_001, 4)
    assert 12_000 < verdict.forgotten < 15_001 - 1_000
    assert sum(map(len, (audit._open, audit._settled._young, audit._settled._old))) <= 2_100


def test_expired_prefixes_leave_the_cache(monkeypatch):
    """Millions of different prefixes do not pile up; those in use stay."""
    monkeypatch.setattr("claude_executor.simulator.messages.prompt_cache._FIRST_SWEEP", 100)
    now = [0.0]
    cache = PromptCache(1, lambda: now[0])

    def prompt(number: int) -> Prompt:
        mark = CacheMark(f"{number}".encode(), 5_000, 300.0)
        return Prompt("", "", "m", "haiku-5.5", 1, False, 6_000, [mark])

    for number in range(5_000):
        now[0] = number * 10.0
        cache.begin(prompt(number))
    assert len(cache._until) <= 101
    assert cache.look_up(prompt(4_980)).read == 5_000
