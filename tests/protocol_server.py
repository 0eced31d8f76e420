"""A small server that follows the OpenAI API in three dialects, over a model without weights.

Its model writes lines that are fixed by what stands before them, and by the seed where the
temperature is above 0. It can ignore what others ignore, fail on demand, die and come back.
"""

import json
import re
import threading
import time
from collections import deque
from contextlib import contextmanager
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STEP_END = 151651  # Qwen's <extra_0>
KNOWN = {  # all else is refused by `transformers serve`
    "model", "prompt", "messages", "temperature", "top_p", "max_tokens", "seed", "stop", "n",
    "logprobs",
}  # fmt: skip


def number(*what):
    return int.from_bytes(blake2b(repr(what).encode(), digest_size=4).digest(), "little")


def tokens_of(text):
    return re.findall(r"\n|[^\n ]+ ?| ", text)


def write(text, seed):
    """The rest of a solution after question and steps: lines, and an answer without a newline."""
    question, *lines = text.split("\n")[:-1]
    steps = 2 + number(question) % 3
    out, told = "", text
    for i in range(len(lines), steps):
        line = f"{i} + {number(told, seed) % 90} = 7 .\n"
        out, told = out + line, told + line
    done = len(lines) > steps
    return out if done else out + f"The answer is {number(told, seed) % 5} ."


class Server(ThreadingHTTPServer):
    daemon_threads = True
    dead = False

    def handle_error(self, request, client_address):  # a client that hung up is no news
        pass


class Protocol:
    """What the server is like, and what it has seen; `start` and `kill` it at one port."""

    def __init__(self, dialect="vllm"):
        self.dialect, self.key, self.delay = dialect, None, 0.0
        self.faults, self.poison = deque(), None  # (status, headers, body) to come first
        self.seen, self.answered, self.running, self.most = [], 0, 0, 0
        self.cached, self.per_token, self.kill_after = 0, False, None
        self.lock, self.server, self.port = threading.Lock(), None, 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def bodies(self):
        return [body for _, body, _ in self.seen]

    def start(self):
        handler = type("Handler", (Handler,), {"about": self})
        self.server = Server(("127.0.0.1", self.port), handler)
        self.port = self.server.server_address[1]
        run = self.server.serve_forever
        threading.Thread(target=run, args=(0.01,), daemon=True).start()

    def kill(self):
        """No more answers, not even on connections that are open."""
        self.server.dead = True
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def serving(dialect="vllm"):
    about = Protocol(dialect)
    about.start()
    try:
        yield about
    finally:
        if not about.server.dead:
            about.kill()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        about = self.about
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with about.lock:
            about.seen.append((self.path, body, dict(self.headers)))
            fault = about.faults.popleft() if about.faults else None
            about.running += 1
            about.most = max(about.most, about.running)
            dies = about.kill_after is not None and about.answered >= about.kill_after
        time.sleep(about.delay)
        with about.lock:
            about.running -= 1
        if dies and not self.server.dead:
            about.kill_after = None
            about.kill()
        if self.server.dead or fault == "hang up":
            self.close_connection = True
            return
        status, headers, text = fault or self.answer(body)
        with about.lock:
            about.answered += 1
        data = text.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def answer(self, body):
        about, said = self.about, self.headers.get("Authorization")
        if about.key and said != f"Bearer {about.key}":
            return 401, {}, json.dumps({"error": {"message": f"wrong key: {said}"}})
        if about.poison and about.poison in json.dumps(body):
            return 500, {}, "Internal\nServer Error"
        if self.path == "/pooling":
            return 200, {}, json.dumps(self.pool(body))
        if about.dialect == "transformers" and (odd := sorted(body.keys() - KNOWN)):
            return 422, {}, json.dumps({"detail": f"Unexpected fields in the request: {odd}"})
        if self.path == "/v1/completions":
            return 200, {}, json.dumps(self.complete(body, body["prompt"], chat=False))
        if self.path == "/v1/chat/completions":
            first, *more = [message["content"] for message in body["messages"]]
            assert bool(more) == body.get("continue_final_message", False)
            assert body.get("add_generation_prompt", True) is not bool(more)
            return 200, {}, json.dumps(self.complete(body, first + "".join(more), chat=True))
        return 404, {}, json.dumps({"error": "no such path"})

    def complete(self, body, prompt, chat):
        n = 1 if self.about.dialect == "transformers" else body.get("n", 1)
        choices = [self.choice(body, prompt, i, chat) for i in range(n)]
        written = sum(choice.pop("written") for choice in choices)
        usage = {"prompt_tokens": len(tokens_of(prompt)), "completion_tokens": written}
        usage["total_tokens"] = sum(usage.values())
        if self.about.cached:
            usage["prompt_tokens_details"] = {"cached_tokens": self.about.cached}
        return {"choices": choices[::-1], "usage": usage, "model": body.get("model")}

    def choice(self, body, prompt, i, chat):
        dialect, stop = self.about.dialect, body.get("stop", [None])[0]
        seed = body["seed"] + i if body["temperature"] > 0 else 0
        tokens, why = tokens_of(write(prompt, seed)), None
        finish = "stop"
        if stop in tokens:
            tokens, why = tokens[: tokens.index(stop) + 1], stop
        if len(tokens) >= body["max_tokens"]:
            tokens, why, finish = tokens[: body["max_tokens"]], None, "length"
        told = [*tokens, "</s>"] if finish == "stop" and why is None else tokens
        cut = dialect != "transformers" and why
        text = "".join(tokens[:-1] if cut else tokens)
        choice = {"index": i, "finish_reason": finish, "written": len(told)}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if dialect == "vllm":
            choice["stop_reason"] = why
        if dialect == "vllm" and body.get("logprobs"):
            values = [-(number(token) % 8) / 8 for token in told]
            both = [{"token": t, "logprob": x} for t, x in zip(told, values)]
            choice["logprobs"] = (
                {"content": both} if chat else {"tokens": told, "token_logprobs": values}
            )
        if dialect == "vllm" and body.get("return_token_ids"):
            choice["token_ids"] = [number(token) for token in told]
        return choice

    def pool(self, body):
        ids = body["input"]
        good = [place_score(ids[: i + 1]) for i in range(len(ids))]
        places = [[1 - p, p] for p in good]
        if not self.about.per_token:
            places = [place for place, i in zip(places, ids) if i == STEP_END]
        data = [{"index": 0, "object": "pooling", "data": places}]
        return {"object": "list", "data": data, "usage": {"prompt_tokens": len(ids)}}


def place_score(ids):
    """What the model of rewards says after these ids."""
    return (1 + number(list(ids)) % 62) / 64
