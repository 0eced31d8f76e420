"""A search method played by hand, request by request: what it asks, and what it says if stopped."""

from scripted import Judge, Walker

from workbench.task import stream_key
from workbench.types import Meter, Prefix, Sample, Step, Stopped


def play(generator, models, *, stop_at=None):
    """The result of a method and its requests; at request `stop_at` (from 0) it is told to stop.

    `models` answers by name. ValueError if it goes on asking after it was stopped.
    """
    requests, reply = [], None
    try:
        while True:
            request = generator.send(reply)
            if len(requests) == stop_at:
                generator.throw(Stopped("budget"))
                raise ValueError(f"asked for {request} after it was stopped")
            requests.append(request)
            reply = answer(request, models[request.by], len(requests) - 1)
    except StopIteration as end:
        return end.value, requests


def answer(request, model, number):
    if not isinstance(request, Sample):
        return model.score(request.prefixes)
    rows = [prefix for prefix in request.prefixes for _ in range(request.n)]
    how = {"until": request.until, "temperature": request.temperature, "prompt": request.prompt}
    if request.words:
        how["words"] = [words for words in request.words for _ in range(request.n)]
    keys = [stream_key(0, rows[0].problem.id, 0, number, row) for row in range(len(rows))]
    return model.sample(rows, keys, **how, meters=[Meter() for _ in rows])


class Listener(Walker):
    """A walker that is also told words, and writes as if it were not."""

    def sample(self, prefixes, keys, *, words=None, **how):
        return super().sample(prefixes, keys, **how)


class Branches:
    """Writes what it is told: `after` maps the joined steps to the next steps, in turn.

    A next step is a text or (text, log-probabilities); it ends a solution if it holds a digit. What
    is not told ends at once, without an answer.
    """

    name = "branches"

    def __init__(self, after):
        self.after, self.rows = after, []

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters, words=None):
        seen, out = {}, []
        for i, (prefix, meter) in enumerate(zip(prefixes, meters)):
            turn = seen[prefix.texts] = seen.get(prefix.texts, -1) + 1
            self.rows.append((prompt, prefix.texts, (words or [{}] * len(prefixes))[i]))
            out.append(self._go_on(prefix, turn, until))
            meter.samples += 1
            meter.generated += len(out[-1].steps) - len(prefix.steps)
        return out

    def _go_on(self, prefix, turn, until):
        steps, stop = list(prefix.steps), None
        while stop is None and (until == "end" or len(steps) == len(prefix.steps)):
            told = self.after.get("".join(step.text for step in steps), ["out of words"])
            step = told[turn % len(told)]
            text, logprobs = (step, (0.0,)) if isinstance(step, str) else step
            steps.append(Step(text, (1,) * len(logprobs), tuple(logprobs)))
            stop = "end" if text == "out of words" or any(c.isdigit() for c in text) else None
        return Prefix(prefix.problem, tuple(steps), stop)


class Hostile(Branches):
    """Writes texts that break careless code; one in six ends a solution."""

    texts = (
        "", "\n\n", "None", "<script>alert('x')</script>", "{answer} {question} %s", "a" * 3000,
        "The answer is .", "1/0", "\\frac{1}{", "\x00", "-- ? ? ?", "The answer is 7 .", "٣", "0.0",
    )  # fmt: skip

    def __init__(self):
        super().__init__({})

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters, words=None):
        out = []
        for prefix, key, meter in zip(prefixes, keys, meters):
            steps, stop = list(prefix.steps), None
            while stop is None and (until == "end" or len(steps) == len(prefix.steps)):
                key = stream_key(key, "hostile", 0, 0, 0)
                steps.append(Step(self.texts[key % len(self.texts)], (1,), (-(key % 7) / 3,)))
                stop = {0: "end", 1: "length"}.get(key // 100 % 6)
            out.append(Prefix(prefix.problem, tuple(steps), stop, prompt))
            meter.samples += 1
        return out


def scores_by(table, default=0.5):
    """A verifier that scores a step by the joined steps up to it."""

    def score(problem, texts):
        return [table.get("".join(texts[: t + 1]), default) for t in range(len(texts))]

    class Tabled(Judge):
        def score(self, prefixes, *, meters=None):
            return [self.function(None, p.texts) for p in prefixes]

    return Tabled([], score)
