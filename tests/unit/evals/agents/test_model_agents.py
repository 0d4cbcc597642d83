"""The agents of the four providers against a real server that speaks their protocols, in a real environment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from tests.unit.evals.agents.dialects import DIALECTS, Dialect
from tests.unit.evals.agents.mcp_server import ToolServer, serve_tools
from tests.unit.evals.agents.model_server import ModelServer, Reply
from tests.unit.evals.agents.rooms import PICTURE, a_run, make_environment, steps_of, try_it

from taskloom.domain.evaluation import ToolCall
from taskloom.evals import Capability, Limits
from taskloom.evals.agents import make_agent, spec_of
from taskloom.evals.failures import AgentFailure

pytestmark = pytest.mark.filterwarnings("ignore:The WebSocket server transport is deprecated")
KEY = "sk-very-secret-0123456789"

each_provider = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: type(one).__name__.lower())


@pytest.fixture
async def model() -> AsyncGenerator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
async def tools() -> AsyncGenerator[ToolServer]:
    yield ToolServer()


def make(dialect: Dialect, model: ModelServer, **options: Any) -> Any:
    told = {"api_key": KEY, "base_url": model.url + dialect.base, "retry_pause": 0.001, "retries": 2} | options
    return dialect.agent(dialect.model, **told)


@each_provider
async def test_a_prompt_is_answered_and_graded(dialect: Dialect, model: ModelServer) -> None:
    model.will(dialect.says("42"))
    run = await try_it(make(dialect, model, system="Be brief.", max_tokens=50, temperature=0.5))
    assert (run.reward, run.trace.content, run.trace.stop_reason) == (1.0, "42", "done")
    asked = model.asked[0]
    header, prefix = dialect.key
    assert (asked.path, asked.headers[header]) == (dialect.path, prefix + KEY)
    assert dialect.system(asked.body) == "Be brief."
    assert dialect.most(asked.body) == 50
    assert "What is 40 + 2?" in json.dumps(asked.body)
    assert '"temperature": 0.5' in json.dumps(asked.body)
    assert "tools" not in asked.body


@each_provider
async def test_a_model_call_is_a_step_with_tokens_cost_and_time(dialect: Dialect, model: ModelServer) -> None:
    model.will(dialect.says("42"))
    run = await try_it(make(dialect, model))
    (step,) = steps_of(run, "agent")
    assert (step.usage.prompt_tokens, step.usage.completion_tokens, step.usage.cached_tokens) == (1000, 100, 400)
    assert step.usage.cost_usd == pytest.approx(dialect.cost)
    assert run.trace.usage.cost_usd == pytest.approx(dialect.cost)
    assert step.model.startswith(dialect.model)
    assert 0 < step.started <= step.ended
    assert step.finish_reason in {"stop", "completed", "end_turn", "STOP"}
    assert not step.cached
    if type(dialect).__name__ != "Chat":
        assert step.reasoning == "I add them."


@each_provider
async def test_tools_are_called_in_two_rounds_and_their_results_go_back_with_what_the_model_said(
    dialect: Dialect, model: ModelServer, tools: ToolServer
) -> None:
    first, second = ("a1", "add", {"a": 40, "b": 1}), ("b2", "add", {"a": 41, "b": 1})
    model.will(dialect.calls(first, text="Let me see."), dialect.calls(second), dialect.says("42"))
    async with serve_tools(tools, "websocket") as url:
        run = await try_it(
            make(dialect, model), make_environment("Add", Capability.mcp(url=url, auth_token="t0ken"))
        )
    assert run.reward == 1.0
    assert "add" in dialect.tools(model.asked[0].body)
    assert dialect.results(model.asked[1].body) == [("a1", "41")]
    assert dialect.results(model.asked[2].body) == [("a1", "41"), ("b2", "42")]
    for mark in ("EqQBCgIYAhIM1gbcDa9GJwZA", "CiQB0e2Kb", "rs_67ccd3a9"):  # signatures and ids of thoughts
        assert (mark in json.dumps(model.asked[1].body)) == (mark in json.dumps(dialect.calls(first)))
    assert tools.calls == [("add", run.trace_id)] * 2
    assert tools.headers["authorization"] == "Bearer t0ken"
    sources = [step.source for step in run.trace.steps]
    assert sources == ["task", "user", "agent", "tool", "agent", "tool", "agent", "task"]
    assert steps_of(run, "agent")[0].tool_calls == (ToolCall("a1", "add", {"a": 40, "b": 1}),)
    assert steps_of(run, "agent")[0].content == "Let me see."
    assert steps_of(run, "tool")[1].result.content[0]["text"] == "42"


@each_provider
async def test_calls_of_one_answer_run_side_by_side(
    dialect: Dialect, model: ModelServer, tools: ToolServer
) -> None:
    both = [(name, "meeting", {"name": name}) for name in ("ann", "bob")]
    model.will(dialect.calls(*both), dialect.says("42"))
    async with serve_tools(tools, "websocket") as url:
        run = await try_it(make(dialect, model), make_environment("Meet", Capability.mcp(url=url)))
    assert dialect.results(model.asked[1].body) == [("ann", "ann met"), ("bob", "bob met")]
    assert {step.call.id for step in steps_of(run, "tool")} == {"ann", "bob"}


@each_provider
async def test_images_of_a_prompt_and_of_a_tool_are_shown_to_the_model(
    dialect: Dialect, model: ModelServer, tools: ToolServer
) -> None:
    prompt = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "data": PICTURE, "mimeType": "image/png"},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            ],
        }
    ]
    model.will(dialect.calls(("p", "picture", {})), dialect.says("42"))
    async with serve_tools(tools, "websocket") as url:
        await try_it(make(dialect, model), make_environment(prompt, Capability.mcp(url=url)))
    given = [f"data:image/png;base64,{PICTURE}", "https://example.org/a.png"]
    assert dialect.images(model.asked[0].body) == given
    assert dialect.images(model.asked[1].body) == [*given, given[0]]


@each_provider
async def test_a_conversation_as_a_prompt_keeps_its_roles(dialect: Dialect, model: ModelServer) -> None:
    prompt = [
        {"role": "system", "content": "You add."},
        {"role": "user", "content": {"type": "text", "text": "40?"}},
        {"role": "assistant", "content": "And?"},
        {"role": "user", "content": "Plus 2."},
    ]
    model.will(dialect.says("42"))
    await try_it(make(dialect, model, system="Be brief."), make_environment(prompt))
    body = model.asked[0].body
    assert dialect.system(body) == "Be brief.\n\nYou add."
    turns = body.get("messages") or body.get("input") or body.get("contents")
    roles = [turn["role"] for turn in turns if turn["role"] != "system"]
    assert roles == ["user", "model" if "contents" in body else "assistant", "user"]


@each_provider
async def test_an_answer_that_was_cut_off_says_so(dialect: Dialect, model: ModelServer) -> None:
    model.will(dialect.says("4", cut=True))
    run = await try_it(make(dialect, model))
    assert (run.trace.content, run.trace.stop_reason, run.reward) == ("4", "length", 0.0)


@each_provider
async def test_a_refusal_is_kept_as_one_and_graded_as_an_answer(dialect: Dialect, model: ModelServer) -> None:
    model.will(dialect.refuses("I cannot add."))
    run = await try_it(make(dialect, model))
    (step,) = steps_of(run, "agent")
    assert step.refusal == "I cannot add."
    assert run.trace.content == "I cannot add."
    assert run.trace.stop_reason == "done"


@each_provider
async def test_an_answer_without_any_answer_in_it_is_the_models_failure(
    dialect: Dialect, model: ModelServer
) -> None:
    model.will(dialect.empty)
    with pytest.raises(AgentFailure, match="the answer has no"):
        await try_it(make(dialect, model))


@each_provider
async def test_a_wrong_request_is_an_error_with_the_providers_words_at_once(
    dialect: Dialect, model: ModelServer
) -> None:
    model.will(Reply(dialect.error(f"no such model, {KEY}"), status=400))
    with pytest.raises(AgentFailure, match=r"answered 400 no such model, \*\*\*$"):
        await try_it(make(dialect, model))
    assert len(model.asked) == 1


@each_provider
async def test_faults_that_may_pass_are_tried_again(dialect: Dialect, model: ModelServer) -> None:
    model.will(Reply(dialect.error("busy"), 429, {"Retry-After": "0"}), Reply(b"<html>", 503), dialect.says("42"))
    run = await try_it(make(dialect, model))
    assert run.reward == 1.0
    assert steps_of(run, "agent")[0].extra["tries"] == 3


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Reply(b'{"error": "x"}', 500), "500 x"),
        (Reply({}, cut=True), "no answer from"),
        (Reply(b'{"id": "chatcm'), "the answer is no JSON"),
        (Reply(b"[]"), "the answer is list: expected a JSON object"),
        (Reply({}, drop=True), "no answer from"),
        (Reply({}, hang=True), "no answer within 0.05 s"),
    ],
    ids=["500", "cut", "truncated", "list", "dropped", "silent"],
)
async def test_a_fault_that_stays_is_told_with_the_number_of_tries(
    fault: Reply, told: str, model: ModelServer
) -> None:
    model.will(fault, fault)
    agent = make(DIALECTS[0], model, retries=1, timeout=0.05 if fault.hang else 60.0)
    with pytest.raises(AgentFailure, match=rf"openai: {told}.*\(2 tries\)"):
        await try_it(agent)
    assert len(model.asked) == 2


async def test_nobody_at_the_address_is_told_so() -> None:
    agent = DIALECTS[0].agent("m", base_url="http://127.0.0.1:9", retries=0)
    with pytest.raises(AgentFailure, match=r"openai: no answer from http://127.0.0.1:9: "):
        await try_it(agent)


async def test_arguments_that_are_no_json_are_told_to_the_model(model: ModelServer, tools: ToolServer) -> None:
    chat = DIALECTS[0]
    model.will(chat.calls(("a", "add", '{"a": 1,')), chat.calls(("b", "add", "[1, 2]")), chat.says("42"))
    async with serve_tools(tools, "websocket") as url:
        run = await try_it(make(chat, model), make_environment("Add", Capability.mcp(url=url)))
    assert run.reward == 1.0
    (_, first), (_, second) = chat.results(model.asked[2].body)
    assert first.startswith("the arguments are no JSON") and first.endswith('You wrote: {"a": 1,')
    assert second.startswith("the arguments are list: expected a JSON object")
    assert [step.result.is_error for step in steps_of(run, "tool")] == [True, True]
    assert steps_of(run, "agent")[0].extra["malformed"] == {"a": '{"a": 1,'}
    assert tools.calls == []


async def test_a_model_that_never_writes_a_call_right_is_stopped(model: ModelServer) -> None:
    chat = DIALECTS[0]
    model.will(*[chat.calls(("a", "add", "{"), text="hm") for _ in range(3)])
    run = await try_it(make(chat, model))
    assert (run.trace.stop_reason, run.trace.content) == ("malformed_tool_call", "hm")


async def test_geminis_malformed_call_is_told_to_it(model: ModelServer) -> None:
    gemini = DIALECTS[3]
    broken = {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "print(add(1"}]}
    model.will(broken, gemini.says("42"))
    run = await try_it(make(gemini, model))
    assert run.reward == 1.0
    assert "Your tool call could not be read: print(add(1" in json.dumps(model.asked[1].body)


async def test_calls_without_ids_get_some(model: ModelServer, tools: ToolServer) -> None:
    gemini = DIALECTS[3]
    call = gemini.answers([{"functionCall": {"name": "add", "args": {"a": n, "b": 0}}} for n in (1, 2)])
    model.will(call, call, gemini.says("42"))
    async with serve_tools(tools, "websocket") as url:
        run = await try_it(make(gemini, model), make_environment("Add", Capability.mcp(url=url)))
    ids = [call.id for step in steps_of(run, "agent") for call in step.tool_calls]
    assert len(set(ids)) == 4
    responses = [part for content in model.asked[2].body["contents"] for part in content["parts"]]
    assert all("id" not in part["functionResponse"] for part in responses if "functionResponse" in part)


async def test_a_blocked_prompt_is_a_refusal(model: ModelServer) -> None:
    model.will({"promptFeedback": {"blockReason": "SAFETY"}})
    run = await try_it(make(DIALECTS[3], model))
    assert steps_of(run, "agent")[0].refusal == "the prompt was blocked: SAFETY"


async def test_a_failed_response_is_told_with_its_message(model: ModelServer) -> None:
    model.will({"status": "failed", "error": {"code": "server_error", "message": "it broke"}, "output": []})
    with pytest.raises(AgentFailure, match=r"^openai-responses: it broke$"):
        await try_it(make(DIALECTS[1], model))


async def test_a_tool_that_is_not_there_is_told_to_the_model(model: ModelServer) -> None:
    chat = DIALECTS[0]
    model.will(chat.calls(("a", "fly", {})), chat.says("42"))
    await try_it(make(chat, model))
    assert chat.results(model.asked[1].body) == [("a", "there is no tool 'fly'; there are: none")]


@pytest.mark.parametrize("whose", ["agent", "run", "row"])
async def test_the_number_of_steps_is_bounded(whose: str, model: ModelServer) -> None:
    chat = DIALECTS[0]
    model.will(*[chat.calls((str(n), "fly", {}), text=f"said {n}") for n in range(5)])
    agent = make(chat, model, **({"max_steps": 2} if whose == "agent" else {}))
    from taskloom.evals.limits import LimitReached

    async with a_run(
        make_environment(),
        limits=Limits(max_steps=2) if whose == "run" else None,
        agent_config={"max_steps": 2} if whose == "row" else None,
    ) as run:
        if whose == "run":
            with pytest.raises(LimitReached):
                await agent(run)
        else:
            await agent(run)
            assert run.trace.stop_reason == "max_steps"
    assert len(model.asked) == 2
    assert run.trace.content == "said 1"


async def test_a_row_may_say_otherwise_for_the_agent(model: ModelServer) -> None:
    chat = DIALECTS[0]
    model.will(chat.says("42"))
    await try_it(make(chat, model, system="one"), agent_config={"system": "two", "temperature": 1, "other": 3})
    assert chat.system(model.asked[0].body) == "two"
    assert model.asked[0].body["temperature"] == 1
    with pytest.raises(AgentFailure, match="agent_config: max_steps 0: expected a whole number above 0"):
        await try_it(make(chat, model), agent_config={"max_steps": 0})


async def test_an_environment_without_a_prompt_cannot_be_tried_by_a_model(model: ModelServer) -> None:
    with pytest.raises(AgentFailure, match="gave no prompt"):
        await try_it(make(DIALECTS[0], model), make_environment(None))


async def test_token_samples_are_kept_when_the_server_tells_them(model: ModelServer) -> None:
    chat = DIALECTS[0]
    answer = chat.says("42")
    answer["prompt_token_ids"] = [1, 2, 3]
    answer["choices"][0] |= {
        "token_ids": [7, 8],
        "logprobs": {"content": [{"token": "4", "logprob": -0.1}, {"token": "2", "logprob": -0.2}]},
    }
    named = chat.says("42")
    tokens = [{"token": "token_id:7", "logprob": -0.1}]
    named["choices"][0]["logprobs"] = {"content": tokens}
    model.will(answer, named, chat.says("42"))
    agent = make(chat, model, samples=True)
    sample = steps_of(await try_it(agent), "agent")[0].sample
    assert sample.prompt_token_ids == (1, 2, 3)
    assert (sample.output_token_ids, sample.output_logprobs) == ((7, 8), (-0.1, -0.2))
    assert steps_of(await try_it(agent), "agent")[0].sample.output_token_ids == (7,)
    assert steps_of(await try_it(agent), "agent")[0].sample is None
    assert model.asked[0].body["logprobs"] is True and model.asked[0].body["return_token_ids"] is True


async def test_anthropics_cache_of_prompts_is_used_when_asked_for(model: ModelServer) -> None:
    messages = DIALECTS[2]
    model.will(messages.says("42"))
    run = await try_it(make(messages, model, prompt_cache=True))
    last = model.asked[0].body["messages"][-1]["content"][-1]
    assert last["cache_control"] == {"type": "ephemeral"}
    assert steps_of(run, "agent")[0].extra["cache_written"] == 100


async def test_responses_that_are_not_stored_send_no_ids_back(model: ModelServer) -> None:
    responses = DIALECTS[1]
    model.will(responses.calls(("a", "fly", {})), responses.says("42"))
    await try_it(make(responses, model, extra={"store": False}))
    kept = model.asked[1].body["input"]
    assert [one.get("type") for one in kept[1:]] == ["function_call", "function_call_output"]
    assert all("id" not in one for one in kept)


@each_provider
async def test_key_and_address_come_from_variables_when_they_are_not_given(
    dialect: Dialect, model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, url = dialect.variables
    monkeypatch.setenv(key, KEY)
    monkeypatch.setenv(url, model.url + dialect.base + "/")
    model.will(dialect.says("42"))
    assert (await try_it(dialect.agent(dialect.model))).reward == 1.0
    header, prefix = dialect.key
    assert model.asked[0].headers[header] == prefix + KEY


@each_provider
async def test_a_provider_without_a_key_is_not_called(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*dialect.variables, "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    agent = dialect.agent(dialect.model)
    with pytest.raises(AgentFailure, match=rf"no key for .*: set {dialect.variables[0]}.*, or give api_key="):
        agent.check()
    with pytest.raises(AgentFailure, match="no key"):
        await try_it(agent)


@pytest.mark.parametrize("key", ["sk-secret\nX: y", "sk-sécret", "sk secret"])
async def test_a_key_that_cannot_be_a_header_is_refused_without_telling_it(key: str, model: ModelServer) -> None:
    with pytest.raises(
        AgentFailure, match=r"^the key for openai \(OPENAI_API_KEY, or api_key=\) is none"
    ) as refused:
        await try_it(make(DIALECTS[0], model, api_key=key))
    assert "secret" not in str(refused.value) and model.asked == []
    with pytest.raises(ValueError, match=r"headers: X-A: expected plain text"):
        make(DIALECTS[0], model, headers={"X-A": "a\nb"})


@each_provider
async def test_no_key_is_in_spec_repr_trace_or_cache(dialect: Dialect, model: ModelServer, tmp_path: Any) -> None:
    model.will(dialect.says("42"))
    agent = make(dialect, model, cache=tmp_path, headers={"X-Extra": "hidden-word"})
    run = await try_it(agent)
    assert model.asked[0].headers["x-extra"] == "hidden-word"
    stored = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    shown = "".join(
        (repr(agent), repr(vars(agent)), json.dumps(agent.spec()), repr(run.trace), stored, repr(agent._caller))
    )
    assert stored
    assert KEY not in shown and "hidden-word" not in shown


@each_provider
def test_an_agent_is_made_again_from_its_spec(dialect: Dialect) -> None:
    options = {"system": "s", "temperature": 0.1, "max_steps": 3, "tools": ["shell"], "extra": {"top_p": 0.9}}
    agent = dialect.agent(
        "some-model", base_url="http://127.0.0.1:1/x", name="mine", trained_by="a" * 32, **options
    )
    spec = spec_of(agent)
    again = make_agent(json.loads(json.dumps(spec)))
    assert type(again) is type(agent)
    assert spec_of(again) == spec
    assert (again.model, again.name, again.trained_by) == ("some-model", "mine", "a" * 32)
    assert spec_of(dialect.agent("some-model"))["config"] == {"model": "some-model"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"base_url": "example.org"}, "expected http://HOST"),
        ({"base_url": "http://u:p@example.org"}, "a user, a password"),
        ({"timeout": 0}, "timeout 0: expected a number above 0"),
        ({"max_steps": -1}, "max_steps -1"),
        ({"retries": -1}, "retries -1"),
        ({"tools": "shell"}, "expected a list of names"),
        ({"model": ""}, "expected the name of a model"),
        ({"prices": {"m": {"input": 1}}}, "prices: m: expected dollars"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        DIALECTS[0].agent(**({"model": "m"} | options))


async def test_connections_are_shared_by_runs_and_closed_with_the_agent(model: ModelServer) -> None:
    model.will(*[DIALECTS[0].says("42") for _ in range(3)])
    agent = make(DIALECTS[0], model)
    for _ in range(3):
        await try_it(agent)
    assert {one.connection for one in model.asked} == {1}
    await agent.close()
    await model.gone()


async def test_many_calls_at_once_share_few_connections_each(model: ModelServer) -> None:
    chat, count = DIALECTS[0], 40
    model.will(*[chat.says("42") for _ in range(2 * count)])
    agent = make(chat, model)
    environment = make_environment()
    for _ in range(2):
        runs = await asyncio.gather(*(try_it(agent, environment) for _ in range(count)))
        assert [run.reward for run in runs] == [1.0] * count
    assert model.open <= count
    await agent.close()
    await model.gone()


def test_connections_close_with_the_event_loop_and_a_new_loop_has_its_own() -> None:
    agents: list[Any] = []

    async def once() -> None:
        async with ModelServer() as model:
            model.will(DIALECTS[0].says("42"))
            agents.append(make(DIALECTS[0], model))
            await try_it(agents[-1])
            assert len(agents[-1]._caller.sender.pools) == 1

    asyncio.run(once())
    assert len(agents[0]._caller.sender.pools) == 0
    asyncio.run(once())


async def test_a_run_that_is_cancelled_in_a_model_call_ends_at_once(model: ModelServer) -> None:
    seen = asyncio.Event()

    def hang(_: Any) -> Reply:
        seen.set()
        return Reply({}, hang=True)

    model.will(hang)
    running = asyncio.create_task(try_it(make(DIALECTS[0], model)))
    await seen.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await model.closed.wait()
