"""Model calls: pauses between tries, the cache in a folder, what they cost."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evals.agents.dialects import Chat
from tests.unit.evals.agents.model_server import ModelServer, Reply
from tests.unit.evals.agents.rooms import steps_of, try_it

from taskloom.domain.evaluation import Usage
from taskloom.evals.agents import ModelCache, OpenAIAgent
from taskloom.evals.agents.cache import CachedAnswer
from taskloom.evals.agents.openai_chat import ChatProtocol
from taskloom.evals.agents.prices import BUILT_IN, Price, Prices, read_prices
from taskloom.evals.agents.sending import PAUSE_MOST, RETRY_AFTER_MOST, Sender, read_error, read_retry_after
from taskloom.evals.failures import AgentFailure

CHAT = Chat()


class Pauses(list[float]):
    """Takes the place of sleeping."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


# --- tries -------------------------------------------------------------------------------------------------


async def test_pauses_double_with_jitter_up_to_a_bound() -> None:
    pauses = Pauses()
    async with ModelServer() as model:
        model.will(*[Reply({}, 500)] * 9)
        for chance, first in ((1.0, 0.5), (0.0, 0.25)):
            sender = Sender(ChatProtocol(), model.url, retries=2, sleep=pauses, chance=lambda c=chance: c)
            with pytest.raises(AgentFailure, match=r"500 \{\} \(3 tries\)"):
                await sender.post("/x", b"{}")
            assert pauses == [first, first * 2]
            pauses.clear()
    assert Sender(ChatProtocol(), "http://x", chance=lambda: 1.0)._pause(30, None) == PAUSE_MOST


async def test_the_providers_own_pause_is_kept_up_to_a_bound() -> None:
    pauses = Pauses()
    async with ModelServer() as model:
        waits = [{"Retry-After": "7"}, {"retry-after-ms": "1500"}, {"Retry-After": "86400"}]
        details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "32.5s"}]
        told = Reply({"error": {"code": 429, "message": "quota", "details": details}}, 429)
        model.will(*[Reply({}, 429, headers) for headers in waits], told, Reply({"fine": True}, 201))
        received = await Sender(ChatProtocol(), model.url, sleep=pauses).post("/x", b"{}")
    assert pauses == [7.0, 1.5, RETRY_AFTER_MOST, 32.5]
    assert (received.content, received.tries) == ({"fine": True}, 5)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 301])
async def test_other_statuses_are_not_tried_again(status: int) -> None:
    async with ModelServer() as model:
        model.will(Reply({"error": {"message": "no"}}, status))
        with pytest.raises(AgentFailure, match=f"^openai answered {status} no$"):
            await Sender(ChatProtocol(), model.url, sleep=Pauses()).post("/x", b"{}")


async def test_what_no_waiting_helps_is_not_tried_again() -> None:
    async with ModelServer() as model:
        quota = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
        model.will(Reply(quota, 429), Reply({}, 500, {"x-should-retry": "false"}))
        sender = Sender(ChatProtocol(), model.url, sleep=Pauses())
        with pytest.raises(AgentFailure, match="answered 429 You exceeded your quota"):
            await sender.post("/x", b"{}")
        with pytest.raises(AgentFailure, match="answered 500"):
            await sender.post("/x", b"{}")


def test_a_pause_may_be_a_date() -> None:
    assert read_retry_after({"retry-after": formatdate(1_000_030, usegmt=True)}, 1_000_000.0) == 30.0
    assert read_retry_after({"retry-after": formatdate(999_000, usegmt=True)}, 1_000_000.0) == 0.0
    assert read_retry_after({"retry-after": "soon"}, 0.0) is None
    assert read_retry_after({}, 0.0) is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"error": {"message": "m", "code": "c"}}, ("m", "c")),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, ("m", "overloaded_error")),
        ({"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}, ("m", "")),
        ([{"error": {"code": 400, "message": "m"}}], ("m", "")),
        ({"error": "m"}, ("m", "")),
        ({"object": "error", "message": "m"}, ("m", "")),
        ({"detail": "m"}, ("m", "")),
        ({"x": 1}, ('{"x": 1}', "")),
        ("m", ('"m"', "")),
    ],
)
def test_messages_are_found_in_the_shapes_that_servers_have(body: Any, told: tuple[str, str]) -> None:
    assert read_error(json.dumps(body).encode()) == told


def test_a_page_of_a_proxy_is_told_as_it_is() -> None:
    assert read_error(b"<html>Bad gateway\xff") == ("<html>Bad gateway\ufffd", "")


# --- cache -------------------------------------------------------------------------------------------------


async def test_a_call_that_was_made_before_is_answered_from_the_cache_and_costs_nothing(tmp_path: Path) -> None:
    async with ModelServer() as model:
        model.will(CHAT.says("42"))
        options: Any = {"base_url": model.url, "cache": tmp_path}
        first = await try_it(OpenAIAgent("gpt-4.1", **options))
        second = await try_it(OpenAIAgent("gpt-4.1", **options))
    assert len(model.asked) == 1
    (before,), (after,) = steps_of(first, "agent"), steps_of(second, "agent")
    assert (before.cached, after.cached) == (False, True)
    assert (before.usage.cost_usd > 0, after.usage.cost_usd) == (True, 0.0)
    assert after.usage.prompt_tokens == before.usage.prompt_tokens
    assert second.reward == 1.0


async def test_the_tries_of_a_group_differ_and_are_the_same_again_in_the_next_job(tmp_path: Path) -> None:
    async with ModelServer() as model:
        model.will(CHAT.says("1"), CHAT.says("2"), CHAT.says("3"))
        agent = OpenAIAgent("gpt-4.1", base_url=model.url, cache=tmp_path)
        for _ in range(2):
            answers = [(await try_it(agent, try_number=n)).trace.content for n in range(2)]
            assert answers == ["1", "2"]
        # Without a number of the try, its position keeps the tries apart.
        assert (await try_it(agent, position=1)).trace.content == "2"
        shared = OpenAIAgent("gpt-4.1", base_url=model.url, cache=ModelCache(tmp_path, one_epoch=True))
        answers = [(await try_it(shared, try_number=n)).trace.content for n in range(2)]
    assert answers == ["1", "1"]


async def test_another_question_model_server_or_setting_is_another_call(tmp_path: Path) -> None:
    async with ModelServer() as model, ModelServer() as other:
        model.will(*[CHAT.says("42")] * 3)
        other.will(CHAT.says("42"))
        for agent in (
            OpenAIAgent("gpt-4.1", base_url=model.url, cache=tmp_path),
            OpenAIAgent("gpt-4o", base_url=model.url, cache=tmp_path),
            OpenAIAgent("gpt-4.1", base_url=model.url, cache=tmp_path, temperature=0.0),
            OpenAIAgent("gpt-4.1", base_url=other.url, cache=tmp_path),
        ):
            await try_it(agent)
    assert len(list(tmp_path.rglob("*.json"))) == 4


async def test_a_failed_call_is_not_kept(tmp_path: Path) -> None:
    async with ModelServer() as model:
        model.will(Reply({}, 400), CHAT.empty, CHAT.says("42"))
        agent = OpenAIAgent("gpt-4.1", base_url=model.url, cache=tmp_path)
        for _ in range(2):
            with pytest.raises(AgentFailure):
                await try_it(agent)
        assert (await try_it(agent)).reward == 1.0


def stored(text: str, time: float = 0.0) -> CachedAnswer:
    return CachedAnswer(time=time, provider="p", model="m", url="u", answer={"text": text})


def test_an_answer_expires_and_a_broken_file_counts_as_missing(tmp_path: Path) -> None:
    now = 1000.0
    cache = ModelCache(tmp_path, expires=60, clock=lambda: now)
    key = cache.key("p", "m", "u", b"{}")
    assert cache.find(key) is None
    cache.store(key, stored("a", now))
    now += 59
    assert cache.find(key) == stored("a", 1000.0)
    now += 2
    assert cache.find(key) is None
    cache.store(key, stored("b", now))
    (path,) = tmp_path.rglob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text('{"time": 1')
    assert cache.find(key) is None
    with pytest.raises(ValueError, match="expires 0: expected seconds above 0"):
        ModelCache(tmp_path, expires=0)


def test_many_writers_of_one_answer_leave_one_whole_file(tmp_path: Path) -> None:
    key = ModelCache(tmp_path).key("p", "m", "u", b"{}")

    def write(number: int) -> bool:
        cache = ModelCache(tmp_path)
        cache.store(key, stored("x" * 10_000 + str(number)))
        found = cache.find(key)
        return found is not None and len(found.answer["text"]) > 10_000

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write, range(64)))
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".json"]


async def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with ModelServer() as model:
        model.will(CHAT.says("42"))
        with pytest.raises(AgentFailure, match="the cache of model calls cannot be written"):
            await try_it(OpenAIAgent("m", base_url=model.url, cache=tmp_path / "file"))


# --- prices ------------------------------------------------------------------------------------------------


def test_a_price_counts_what_was_cached_and_written_apart() -> None:
    price = Price(3.0, 15.0, cached=0.3, cache_write=3.75)
    usage = Usage(prompt_tokens=1_000_000, completion_tokens=100_000, cached_tokens=400_000)
    assert price.cost(usage, cache_written=100_000) == pytest.approx(0.5 * 3 + 0.4 * 0.3 + 0.1 * 3.75 + 1.5)
    assert Price(3.0, 15.0).cost(usage) == pytest.approx(4.5)


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("gpt-4.1", "gpt-4.1"),
        ("gpt-4.1-2025-04-14", "gpt-4.1"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4"),
        ("gemini-2.5-flash-001", "gemini-2.5-flash"),
        ("gpt-5-pro", None),
        ("claude-opus-4-9", None),
        ("my-model", None),
    ],
)
def test_a_models_versions_have_its_price_and_other_models_none(model: str, known: str | None) -> None:
    assert Prices().find(model) == (BUILT_IN[known] if known else None)


def test_a_users_table_wins(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text('{"gpt-4.1": {"input": 1, "output": 2}, "local/*": {"input": 0, "output": 0.5}}')
    prices = read_prices(path)
    assert prices.find("gpt-4.1-2025-04-14") == Price(1.0, 2.0)
    assert prices.find("local/llama") == Price(0.0, 0.5)
    assert prices.find("gpt-4o") == BUILT_IN["gpt-4o"]
    assert Prices(built_in=False).find("gpt-4o") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "expected an object of prices by model, got list"),
        ("{", "expected a JSON object of prices by model"),
        ('{"m": {"input": -1, "output": 1}}', "m: expected prices from 0 on"),
        ('{"m": {"inputs": 1, "output": 1}}', "m: expected dollars such as"),
    ],
)
def test_a_wrong_table_is_refused(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        read_prices(path)


async def test_a_model_without_a_price_says_so_and_a_servers_own_cost_is_taken() -> None:
    async with ModelServer() as model:
        told = CHAT.says("42")
        told["model"] = "own"
        costed = json.loads(json.dumps(told))
        costed["usage"]["cost"] = 0.25
        model.will(told, costed)
        agent = OpenAIAgent("own", base_url=model.url)
        (step,) = steps_of(await try_it(agent), "agent")
        assert (step.usage.cost_usd, step.extra["price"]) == (0.0, "unknown")
        (step,) = steps_of(await try_it(agent), "agent")
        assert step.usage.cost_usd == 0.25
        assert "price" not in step.extra
