"""Policies and verifiers behind a server, against one that follows the API: same text, same draws.

What becomes of a run when the server fails: test_server_failures."""

import json
import logging
import pickle

import pytest
from asking import FAST, PROBLEMS, asks, by_steps, one_line, policy_at
from hosts import host_tokenizer
from protocol_server import place_score, serving, tokens_of, write
from public_checkpoints import qwen_tokenizer
from scripted import constant

from workbench.drive import solve
from workbench.models import load_policy
from workbench.models.presets import preset
from workbench.models.prompts import prompts_for
from workbench.models.public import PUBLIC
from workbench.models.server import ServerPolicy
from workbench.models.server_client import ServerClient
from workbench.models.server_verifier import ServerVerifier
from workbench.models.templates import render
from workbench.search import METHODS
from workbench.types import Meter, Prefix, Problem, RowsFailed

DIALECTS = pytest.mark.parametrize("dialect", ["vllm", "transformers", "llama"])
KEY = "sk-0123456789-not-to-be-seen"


@pytest.fixture
def server():
    with serving() as about:
        yield about


# -- text, draws, meters ---------------------------------------------------------------------------


@DIALECTS
@pytest.mark.parametrize("chat", [False, True])
def test_steps_and_wholes_are_the_text_of_the_model(dialect, chat):
    with serving(dialect) as about:
        policy = policy_at(about, chat=chat)
        wholes = solve(PROBLEMS, METHODS["greedy"], policy=policy)
        expected = [write(f"{p.question}\n", 0) for p in PROBLEMS]
        assert [r.best.text for r in wholes] == expected
        assert all(r.best.stop == "end" and not r.best.ids for r in wholes)
        if chat and dialect == "transformers":
            return  # cannot go on where a step ended
        stepwise = solve(PROBLEMS, by_steps, policy=policy)
        assert [r.error for r in stepwise] == [None] * len(PROBLEMS)
        assert [r.best.texts for r in stepwise] == [r.best.texts for r in wholes]
        assert all(r.best.stop == "end" for r in stepwise)


def test_a_prefix_is_sent_as_the_text_that_it_is(server):
    policy = policy_at(server, separator="\n\n")
    prefix = Prefix.of(PROBLEMS[0], [" a  ", "b\n", "c"])
    policy.sample([prefix], [0])
    (body,) = server.bodies()
    assert body["prompt"] == "How many are 0 ?\n a  \n\nb\n\n\nc\n\n"
    assert body["model"] == "scripted" and body["top_p"] == 1 and body["max_tokens"] == 384
    assert "stop" not in body and "n" not in body


def test_a_chat_that_this_server_cannot_continue_is_one_clear_line():
    with serving("transformers") as about:
        (result,) = solve(PROBLEMS[:1], by_steps, policy=policy_at(about, chat=True))
    assert "status 422" in one_line(result.error) and "chat=False" in result.error


@DIALECTS
def test_whoever_runs_beside_a_problem_its_draws_stay(dialect):
    with serving(dialect) as about:
        policy = policy_at(about)
        how = {"policy": policy, "verifier": constant(PROBLEMS), "seed": 5, "n": 4}
        alone = solve(PROBLEMS, METHODS["best_of_n"], in_flight=1, **how)
        together = solve(PROBLEMS, METHODS["best_of_n"], **how)
    assert [r.rollouts for r in alone] == [r.rollouts for r in together]
    assert all(len(set(r.rollouts)) > 1 for r in alone)


@DIALECTS
def test_draws_may_share_a_request_where_the_server_knows_n(dialect):
    with serving(dialect) as about:
        policy = policy_at(about, draws_per_request=4)
        found, meter = asks(policy, 6)
        fewer = 1 + 1 + 3 + 1 if dialect == "transformers" else 2
        assert len(about.seen) == fewer and {b.get("n", 1) for b in about.bodies()[:2]} == {4, 2}
    assert len({p.text for p in found}) == 6 and meter.samples == 6


def test_usage_is_metered_and_what_was_cached_is_told_apart(server):
    found, meter = asks(policy_at(server), 3)
    read, written = len(tokens_of(f"{PROBLEMS[0].question}\n")), sum(map(count, found))
    assert (meter.prefilled, meter.generated, meter.samples) == (3 * read, written, 3)
    server.cached = 4
    _, meter = asks(policy_at(server), 3)
    assert (meter.prefilled, meter.cached) == (3 * (read - 4), 12)


def count(prefix):
    return len(tokens_of(prefix.text)) + 1  # the end


def test_out_of_room_is_said(server):
    (found,), _ = asks(policy_at(server, max_tokens=3))
    assert found.stop == "length" and len(tokens_of(found.text)) == 3


@pytest.mark.parametrize("chat", [False, True])
def test_log_probabilities_go_to_the_steps_of_their_tokens(server, chat):
    policy = policy_at(server, chat=chat, extra={"return_token_ids": True})
    (whole,), _ = asks(policy)
    for step in whole.steps:
        last = step is whole.steps[-1]
        assert len(step.logprobs) == len(step.ids) == len(tokens_of(step.text)) + 1, last
    (step,), _ = asks(policy, until="step")
    assert step.steps[0].logprobs == whole.steps[0].logprobs


def test_without_log_probabilities_methods_that_need_them_refuse_in_one_line():
    with serving("transformers") as about:
        how = {"policy": policy_at(about), "verifier": constant(PROBLEMS)}
        (result,) = solve(PROBLEMS[:1], METHODS["mcts"], **how)
        assert "prior='mean' needs log-probabilities" in one_line(result.error)
        (result,) = solve(PROBLEMS[:1], METHODS["mcts"], prior="uniform", **how)
        assert result.error is None and result.best.stop == "end"
        assert all(not step.logprobs for step in result.best.steps)


def test_no_more_than_concurrency_requests_run_at_once(server):
    server.delay = 0.1
    asks(policy_at(server, concurrency=3), 12)
    assert server.most == 3


@pytest.mark.slow
def test_more_than_a_hundred_requests_may_run_at_once(server):
    server.delay = 5.0  # until all have come, also on a busy machine
    asks(policy_at(server, concurrency=130), 130)
    assert server.most > 100


# -- keys ------------------------------------------------------------------------------------------


def test_a_key_comes_from_the_environment_and_is_seen_nowhere(
    server, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG)
    server.key = KEY
    policy, file = policy_at(server), tmp_path / "runs.jsonl"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    results = solve(PROBLEMS, METHODS["greedy"], policy=policy, save=file)
    assert not any(r.error for r in results)
    server.key = "another"  # it repeats what was sent
    refused = solve(PROBLEMS, METHODS["sample"], policy=policy, save=tmp_path / "no.jsonl")
    assert all("status 401" in one_line(r.error) and "***" in r.error for r in refused)
    with pytest.raises(RowsFailed) as failure:
        asks(policy)
    texts = [file.read_text() for file in tmp_path.iterdir()]
    texts += [caplog.text, repr(policy), repr(vars(policy)), repr(policy.client)]
    texts += [policy.fingerprint(), policy.name, *(r.error for r in refused)]
    texts += [repr(failure.value), repr(failure.value.replies), pickle.dumps(policy).decode("l1")]
    assert len(file.read_text().splitlines()) == 7 and not any(KEY in text for text in texts)


def test_a_key_that_no_header_can_carry_and_one_at_the_wrong_place_are_refused_unseen(
    server, monkeypatch
):
    monkeypatch.setenv("MY_KEY", f"{KEY} and\nmore")
    with pytest.raises(ValueError, match="MY_KEY holds no key") as error:
        asks(policy_at(server, key_variable="MY_KEY"))
    assert KEY not in str(error.value)
    for wrong in ({"key_variable": KEY}, {"base_url": f"http://me:{KEY}@host/v1"}):
        with pytest.raises(ValueError, match="key") as error:
            ServerClient(**{"base_url": server.url, **wrong})
        assert KEY not in str(error.value)
    monkeypatch.delenv("MY_KEY")
    asks(policy_at(server, key_variable="MY_KEY"))
    assert "Authorization" not in server.seen[-1][2]


# -- what it is ------------------------------------------------------------------------------------


def test_a_url_is_a_policy_and_what_changes_its_writing_changes_its_fingerprint():
    url = "http://localhost:8000/v1"
    policy = load_policy(f"{url}#some/model", temperature=0.7)
    assert (policy.client.base_url, policy.model, policy.name) == (url, *["some/model"] * 2)
    elsewhere = {"name": "x", "concurrency": 2}
    same = load_policy("http://other/v1/#some/model", temperature=0.7, **elsewhere)
    assert policy.fingerprint() == same.fingerprint()
    options = [
        {}, {"temperature": 0.5}, {"max_tokens": 9}, {"separator": "\n\n"}, {"chat": True},
        {"templates": {"solve": "{question}"}}, {"extra": {"top_k": 0}}, {"model": "b"},
        {"model": None}, {"model": None, "base_url": "http://other/v1"}, {"draws_per_request": 2},
    ]  # fmt: skip
    known = {ServerPolicy(**{"base_url": url, "model": "a", **o}).fingerprint() for o in options}
    assert len(known) == len(options)


def test_a_model_behind_a_url_is_asked_in_ordinary_english():
    url, one = "http://localhost:8000/v1#m", Problem("p", "math", "What is 2 + 3?", "5")

    def question(**options):
        policy = load_policy(url, **options)
        return render(policy.templates, "solve", one), policy

    plain, policy = question()
    assert plain == "Question: What is 2 + 3?\nSolution:\n"
    assert policy.extra == {"stop": ["\nQuestion:"]}  # else it would go on with the next one
    chat, policy = question(chat=True, separator="\n\n", asked={"boxed": True})
    assert chat.startswith("What is 2 + 3?\n\nSolve it step by step, with a blank line")
    assert chat.endswith(r"inside \boxed{}.") and policy.chat and not policy.extra
    llama = host_tokenizer("llama")
    within, policy = question(tokenizer=llama, asked={"system": "Be brief."})
    there = prompts_for(llama, system="Be brief.")["templates"]["solve"]
    assert within == render({"solve": there}, "solve", one) and not policy.chat
    assert question(templates={"solve": "{question}"})[0] == one.question
    assert preset("server").loading["chat"] and question(extra=None)[1].extra
    for beyond in ({"system": "Be brief."}, {"chat": True}):
        with pytest.raises(ValueError, match=r"can't be told that without tokenizer"):
            question(asked=beyond)
    with pytest.raises(ValueError, match="system: with chat=True a server is told"):
        question(chat=True, asked={"system": "Be brief."})
    with pytest.raises(ValueError, match="asked and templates: give one of them"):
        question(templates={"solve": "{question}"}, asked={"boxed": True})


def test_by_steps_a_stop_text_is_known_behind_the_line_break_that_ended_a_step(server):
    policy = policy_at(server, extra={"stop": ["\nQuestion:"]})
    begun = Prefix.of(PROBLEMS[0], ["2 + 3 = 5"])
    for prefix in (Prefix(PROBLEMS[0]), begun):
        policy.sample([prefix], [0], until="step")
    stops = [body.get("stop") for body in server.bodies()]
    assert ["\n", "\nQuestion:"] in stops and ["\n", "\nQuestion:", "Question:"] in stops


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "localhost:8000"}, {"base_url": "ftp://host"}, {"concurrency": 0},
        {"separator": ""}, {"max_tokens": 0}, {"timeout": 0}, {"draws_per_request": 0},
        {"separator": "\nStep {n}:"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="need"):
        ServerPolicy(**{"base_url": "http://host/v1", **wrong})


def test_requests_that_cannot_be_are_refused_before_anything_is_asked(server):
    policy, prefix = policy_at(server), Prefix(PROBLEMS[0])
    ended = Prefix.of(PROBLEMS[0], ["a"], ended=True)
    for rows, how, said in [
        ([ended], {}, "nothing to continue"), ([prefix], {"until": "x"}, "'step' or 'end'"),
        ([prefix], {"temperature": -1}, "temperature"), ([prefix], {"prompt": "x"}, "prompt 'x'"),
        ([prefix] * 2, {}, "1 keys for 2 prefixes"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=said):
            policy.sample(rows, [0], **how)
    assert not server.seen


# -- verifiers -------------------------------------------------------------------------------------

PRM = "Qwen/Qwen2.5-Math-PRM-7B"
TOKENIZER = qwen_tokenizer()


@pytest.mark.parametrize("per_token", [False, True])
def test_a_served_prm_is_read_by_the_table_where_its_steps_end(server, per_token):
    server.per_token = per_token
    prm = ServerVerifier(server.url, PRM, TOKENIZER, **FAST)
    rows = [Prefix.of(PROBLEMS[0], steps) for steps in (["a b", "c"], ["a b"], [], ["a b", "c"])]
    meters = [Meter() for _ in rows]
    found = prm.score(rows, meters=meters)
    start, one, two = PUBLIC[PRM].segments(TOKENIZER, PROBLEMS[0], ["a b", "c"])
    first, second = place_score(start + one), place_score(start + one + two)
    assert found == [[first, second], [first], [], [first, second]]
    assert len(server.seen) == 2 and {path for path, *_ in server.seen} == {"/pooling"}
    lengths = len(start + one + two), len(start + one), 0, 0
    assert tuple(m.verifier for m in meters) == lengths and prm.price(rows) == sum(lengths)


def test_a_search_with_policy_and_verifier_behind_servers(server):
    how = {"policy": policy_at(server), "verifier": ServerVerifier(server.url, PRM, TOKENIZER)}
    results = solve(PROBLEMS[:3], METHODS["beam_search"], beam_width=2, expand=2, **how)
    assert not any(r.error for r in results) and all(r.best.stop == "end" for r in results)
    assert all(r.meter.verifier and r.meter.generated for r in results)


def test_verifiers_behind_several_servers_share_their_work(server):
    steps, url = ["a b", "c"], server.url
    with serving() as other:
        prm = ServerVerifier(f"{url},{other.url}", PRM, TOKENIZER, **FAST)
        found = prm.score([Prefix.of(problem, steps) for problem in PROBLEMS])
        assert other.seen and server.seen and len(other.seen) + len(server.seen) == len(PROBLEMS)
    assert found == ServerVerifier(url, PRM, TOKENIZER).score(
        [Prefix.of(problem, steps) for problem in PROBLEMS]
    )
    assert prm.fingerprint() == ServerVerifier(url, PRM, TOKENIZER).fingerprint()


def test_a_verifier_that_reads_nothing_of_use_says_so(server):
    prm = ServerVerifier(server.url, PRM, TOKENIZER, **FAST)
    rows = [Prefix.of(problem, ["a", "b"]) for problem in PROBLEMS[:2]]
    for places, said in [
        ([[0.5, 0.5]], r"numbers at 1 places for 2 steps"),
        ([[0.5, 0.5, 0.5]] * 2, r"3 numbers at a place, need 2"),
        ([[-1.5, 3.0]] * 2, r"no probabilities: perhaps activated=False"),
    ]:
        reply = {"data": [{"data": places}], "usage": {"prompt_tokens": 1}}
        server.faults.append((200, {}, json.dumps(reply)))
        with pytest.raises(RowsFailed, match=f"1 of 2 rows failed.*{said}") as failure:
            prm.score(rows)
        assert sum(isinstance(r, list) for r in failure.value.replies) == 1
        one_line(str(failure.value))
    reply = {"data": [{"data": [[0.0, 0.0]] * 2}], "usage": {"prompt_tokens": 1}}
    server.faults.append((200, {}, json.dumps(reply)))
    logits = ServerVerifier(server.url, PRM, TOKENIZER, activated=False)
    assert logits.score(rows[:1]) == [[0.5, 0.5]]
    assert logits.fingerprint() != prm.fingerprint()
    with pytest.raises(ValueError, match="give its form"):
        ServerVerifier(server.url, "some/model", TOKENIZER)
