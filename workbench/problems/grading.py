r"""Find the final answer in a solution text, and decide whether two answers have the same value.

Plain numbers (integers, decimals, fractions, mixed numbers) are compared **exactly** and in this
process, in microseconds. Everything else goes to Math-Verify (github.com/huggingface/Math-Verify)
in a child process, which ends when it overruns: that works from any thread, in a notebook, and
on input that hangs or crashes the parser.

Stricter than Math-Verify, so that equality may group votes:

- no ×100: a percent sign is a unit like any other, `28\% = 28`, and neither equals `0.28`;
- no tolerance on rational numbers: 10000 ≠ 10001 and 1/3 ≠ 0.3333333333; a decimal equals an
  irrational value only if they agree to 10 decimals and, below these, to three digits;
- words are compared as words (Math-Verify reads `evil` as a product of letters, equal to `live`),
  and only units that cannot be variables are dropped (Math-Verify drops the t of `x + 3t`);
- an answer is read whole, never by its last number; the European `1,22` is a list of two, not 1.22.

Agreement with eight test suites, in rows (Math-Verify 0.9 alone in brackets), and why it is not all
of them: Math-Verify 251/268 (268) and lighteval 180/196 (193): European decimals, decimals given to
2 to 6 places, inline formulas across lines, options of theirs, `1 - 1/e = 1 + 1/e`. MARIO 45/60
(29): three decimals suffice there, 10\% is also 0.1, clock times. Hendrycks 14/16 (7): lists have
an order there. reasoning-from-scratch 21/22 (14): 4/6 is not 2/3 inside a tuple there. NeMo-Skills
29/29 (16), open-instruct 9/9 (6), open-r1 3/3 (3). Taught in notebook 01.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache

GRADERS = 2  # graders alive at a time
LONGEST = 10_000  # characters; a longer answer equals only itself
BUSY = 20  # times longer a child may take by the clock than by its own computing

# -- extraction ------------------------------------------------------------------------------------

_NUM = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_BRACE = re.compile(r"\\{1,2}(?:boxed|fbox)(?:\s*\{|\s+(-?[\d.]+))|\\.|[{}]", re.S)
# a line in capitals with a colon, or with text below it, is a heading
_HASHES = re.compile(r"####[ \t]*(?![A-Z*][^\n]*(?::|\n\s*\S))(\S.*)")
_PHRASE = re.compile(
    r"^(?:.*\b(?i:answer)\b[^\n.]{0,60}?(?:\bis\b:?|:)|[ \t]*A:)[ \t*]*"
    # or on a short line below, maybe of a display
    r"(?:(?:\$\$|\\\[)?[ \t*]*\n\s*(?:(?:\$\$|\\\[)[ \t]*\n\s*)?(?=.{1,60}$))?([^\s:].*)",
    re.M,
)
_LAST = re.compile(
    rf"\\[dtc]?frac\{{-?\d+\}}\{{\d+\}}|(?:(?<![\w)\]}}])-\$?|(?<![\w.]))(?:{_NUM})(?:/\d+)?"
)
# no pattern may look at a long run of letters or spaces again from each of its places
_PROSE = re.compile(
    r"[A-Za-z]{2} (?:an? )?[A-Za-z]{2}"
    r"|^[-$\d.,/]*\d an? (?!(?:sin|cos|tan|log|ln|exp|sqrt)\b)[A-Za-z]{3}"
)
_ABOUT = re.compile(r"(?:about|approximately|around|roughly|exactly) (?=[-$\d])", re.I)
_BOLD = re.compile(r"\*\*(?![\w(])|(?<![\w)])\*\*")  # but no power
_COUNTED = re.compile(
    rf"\$?(-?(?:{_NUM})(?:/\d+)?) "
    r"(?:(?!\w*illion|hundred|thousand|dozen|sqrt)[A-Za-z]{4,}|men|lbs?|oz|hrs?|mins?)"
)
# a first number that is not the whole: 3 1/2 hours, 2 x 10^5, 1.5 million, 2 hours and 30 minutes
_GOES_ON = re.compile(r"\s*(?:\d+/\d|[*^×]|x \d|\w*illion|\w+ and \d)")
_AFTER = re.compile(r"(?:\.\s+(?=[A-Z])|(?<!\s)\s*I hope\b|<\|).*", re.S)
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


def extract_answer(text: str | None) -> str | None:
    r"""The final answer stated in a solution, or None if there is none.

    Looks for, in this order: the last `\boxed{…}`, the last `#### …`, the last "The answer is …",
    "Answer: …" or "A: …", the last number. Dollar signs, a final stop and commas are removed.

    >>> extract_answer(r"so $x = \boxed{\frac{1}{2}}$.")
    '\\frac{1}{2}'
    >>> extract_answer("5 + 8 = 13\nThe answer is 13 .")
    '13'
    >>> extract_answer("He pays 3 * $400 = $1,200 in all."), extract_answer("no idea")
    ('1200', None)
    """
    text = (text or "").replace("\u2212", "-")
    numbers = [match[0] for match in _LAST.finditer(text)]
    for found in (_boxed(text), _last(_HASHES, text), _last(_PHRASE, text), *numbers[-1:]):
        if found and (answer := _tidy(found)):
            return answer
    return None


def _boxed(text: str) -> str | None:
    """Content of the last box whose braces balance; one pass, however the text is nested."""
    opened, last = [], (-1, None)  # (start of the content, is it a box)
    for token in _BRACE.finditer(text):
        if token[1]:
            last = (token.start(1), token[1])
        elif token[0] == "}" and opened:
            start, is_box = opened.pop()
            if is_box and start > last[0]:
                last = (start, text[start : token.start()])
        elif token[0].endswith("{") and token[0] != r"\{":
            opened.append((token.end(), len(token[0]) > 1))
    return last[1]


def _last(pattern: re.Pattern, text: str) -> str | None:
    found = pattern.findall(text)
    return _AFTER.sub("", found[-1]) if found else None


def _tidy(answer: str) -> str:
    answer = _undelimited(_BOLD.sub("", answer.replace("{,}", ",")).strip("* \t\n"))
    if about := _ABOUT.match(answer):
        answer = answer[about.end() :]
    if counted := _COUNTED.fullmatch(answer):  # 42 apples
        answer = counted[1]
    elif _PROSE.search(answer) and "\\" not in answer:
        stated = answer.rpartition("=")[2].strip()  # 5 + 3 = 8 apples in all
        if numbers := [number[0] for number in _LAST.finditer(stated)]:
            # 18 dollars per day; the volume is 120
            first = stated.startswith(numbers[0])
            if not (first and _GOES_ON.match(stated[len(numbers[0]) :])):
                answer = numbers[0] if first else numbers[-1]
    return answer.replace(",", "") if re.fullmatch(rf"-?(?:{_NUM})", answer) else answer


def _undelimited(text: str) -> str:
    """Without enclosing maths delimiters, currency signs and a final full stop."""
    text = text.strip().rstrip(".\\ ")
    for left, right in _DELIMITERS:
        inner = text[len(left) : -len(right)]
        if inner and text == left + inner + right and left not in inner:
            return _undelimited(inner)
    text = text.replace(r"\$", "")
    return text.replace("$", "") if text.count("$") == 1 else text


# -- equality --------------------------------------------------------------------------------------

_TEXT = r"\\(?:text|textbf|textit|textrm|textnormal|mbox|mathrm|mathbf)\s*"
_WRAPPED = re.compile(_TEXT + r"\{([^{}]*)\}")
_UNIT = re.compile(
    rf"(?<=[\w)}}])(?:\s*{_TEXT}\{{(?=\W*\w\w)(?![^}}]*illion)[^{{}}]*\}}(?:\^\{{?\d\}}?)?"
    r"|\s*(?:\\?%|percent(?:age)?|pct|degrees?|dollars?|cents?"
    r"|hours?|minutes?|seconds?|days?|weeks?|months?|years?"
    r"|(?:square |cubic )?(?:units?|inch(?:es)?|feet|foot|yards?|miles?|meters?))"
    r"|\s(?:cm|mm|km|kg|ft|mph|lbs?|oz|hrs?|mins?)(?:\^\{?\d\}?)?)$"
)
# 10\,000 and 12 500 are one number; two others side by side Math-Verify adds or multiplies
_THIN = r"(?:(?<!\\)\\[,;: ]|~|[\u00a0\u2009\u202f])"
_GROUPS = re.compile(rf"(?<![\w.,])\d{{1,3}}(?:(?:{_THIN}| )\d{{3}})+(?![\d/]|\s*/)")
_SIDE_BY_SIDE = re.compile(rf"(?<![\w^.])\d+(?:\s|{_THIN}|\\q?quad)+(?!\d+\s*/)\d+(?![\d^])")
_BEFORE_UNIT = re.compile(rf"{_THIN}+\s*(?={_TEXT}\{{|\\?%)")
_FRAC = re.compile(
    rf"\\{{1,2}}[dtc]?frac\s*(\{{\s*-?(?:{_NUM})\s*\}}|\d)\s*(\{{\s*(?:{_NUM})\s*\}}|\d)"
)
_PLAIN = re.compile(
    rf"([-+]?)\s*(?:(\d+)\s+(?=\d+\s*/))?({_NUM})(?:\s*/\s*({_NUM}))?(?:\^\{{?\\circ\}}?|°)?"
)
_POWER = re.compile(rf"([-+]?)\s*({_NUM})[eE]([-+]?[0-9]{{1,3}})")  # 1e3, of programs
_BASED = re.compile(r"\d+_(?:\d|\{\d+\})")
_INEQUALITY = re.compile(r"[<>]|\\(?:[lg]eq?|[lg]t|[lg]eqslant)(?![A-Za-z])")


def is_equal(gold: str, prediction: str | None, *, timeout_s: float = 5.0) -> bool:
    r"""True if two answers have the same value; False if one is missing, or if it takes too long.

    Expects answers, not solutions: call `extract_answer` first. `timeout_s` bounds the seconds of
    computing spent on a pair that is not two plain numbers, so that a verdict does not depend on
    what else the machine does; the first such pair starts a child process (a second or two).

    >>> is_equal("1/2", "0.5"), is_equal(r"\frac{1}{2}", "0.50"), is_equal("1200", "$1,200")
    (True, True, True)
    >>> is_equal(r"10\%", "10"), is_equal("1/2", r"50\%")
    (True, False)
    >>> is_equal("3", "13"), is_equal("10000", "10001"), is_equal("1/2", None)
    (False, False, False)
    >>> is_equal("1000", "1e3"), is_equal("1003", "1e3")
    (True, False)
    """
    if gold is None or prediction is None:
        return False
    (gold, a), (prediction, b) = _read(str(gold)), _read(str(prediction))
    if gold == prediction or not gold or not prediction:
        return gold == prediction != ""
    if a is not None and b is not None:
        return a == b
    if _SIDE_BY_SIDE.search(gold) or _SIDE_BY_SIDE.search(prediction):
        return False
    # of 204_5 and 204_6, Math-Verify drops the bases
    if _BASED.fullmatch(gold) and _BASED.fullmatch(prediction):
        bare = str.maketrans("", "", "{}")
        return gold.translate(bare) == prediction.translate(bare)
    if _is_word(gold) and _is_word(prediction):
        return gold.casefold() == prediction.casefold()
    try:
        return max(len(gold), len(prediction)) <= LONGEST and _ask(gold, prediction, timeout_s)
    except TimeoutError:
        return False


def value_of(answer: str) -> Fraction | None:
    r"""The exact value of a plain number, its unit aside; None for anything else.

    >>> value_of(r"\frac{1}{2}"), value_of("12.50 dollars"), value_of("2 x")
    (Fraction(1, 2), Fraction(25, 2), None)
    """
    return _read(answer)[1]


@lru_cache(maxsize=1 << 14)
def _read(answer: str) -> tuple[str, Fraction | None]:
    r"""An answer without delimiters, spaces, unit and text wrapper; its value if a plain number.

    >>> _read(r"$1{,}234.50 \text{ cm}^2$"), _read(r"-918\frac{1}{2}"), _read("2 x")
    (('1,234.50', Fraction(2469, 2)), ('-918\\frac{1}{2}', Fraction(-1837, 2)), ('2 x', None))
    """
    if len(answer) > LONGEST:
        return answer.strip(), None
    text = _undelimited(answer.replace("\u2212", "-"))
    text = re.sub(r"\\!\s*", "", text).replace("{,}", ",")
    text = _GROUPS.sub(lambda group: re.sub(r"\D", "", group[0]), text)
    text = _UNIT.sub("", _BEFORE_UNIT.sub(" ", text))
    wrapped = _WRAPPED.fullmatch(text)
    text = " ".join((wrapped[1] if wrapped else text).split())
    return text, _number(text) if len(text) < 1000 else None


def _number(text: str) -> Fraction | None:
    """The exact value of an integer, decimal, fraction, mixed number or 1e3; else None."""
    text = _FRAC.sub(lambda frac: f" {frac[1].strip('{ }')}/{frac[2].strip('{ }')}", text)
    if power := _POWER.fullmatch(text.strip()):
        return Fraction(f"{power[1]}{power[2].replace(',', '')}e{power[3]}")
    match = _PLAIN.fullmatch(text.strip())
    if not match:
        return None
    sign, whole, top, bottom = (group.replace(",", "") for group in match.groups(default=""))
    if bottom and not Fraction(bottom):
        return None
    value = int(whole or 0) + Fraction(top) / Fraction(bottom or 1)
    return -value if sign == "-" else value


def _is_word(text: str) -> bool:
    """Letters only, and one word longer than a product of variables is likely to be."""
    words = text.split()
    return text.isascii() and all(word.isalpha() for word in words) and max(map(len, words)) > 3


# -- child processes: the only place where Math-Verify runs ----------------------------------------

# one entry per grader that may be used, None if not yet started
_children: queue.LifoQueue[subprocess.Popen | None]


def _no_children() -> None:
    global _children
    _children = queue.LifoQueue()
    for _ in range(GRADERS):
        _children.put(None)


_no_children()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_no_children)  # a fork must not read its parent's replies


@lru_cache(maxsize=1 << 14)
def _ask(gold: str, prediction: str, timeout_s: float) -> bool:
    """A child's verdict; TimeoutError (so that nothing is remembered) if it overran or died."""
    child, reply, overrun = _children.get(), "", threading.Event()
    try:
        if child is None or child.poll() is not None:
            child = _start()
        # the child counts its own seconds of computing: on a busy machine they take longer
        longest = timeout_s * (BUSY if hasattr(signal, "setitimer") else 1)
        timer = threading.Timer(longest, lambda: (overrun.set(), _kill(child)))
        timer.start()
        try:
            child.stdin.write(json.dumps([gold, prediction, timeout_s]) + "\n")
            child.stdin.flush()
            reply = child.stdout.readline()
        except BrokenPipeError:
            pass
        finally:
            timer.cancel()
            timer.join()
    finally:  # also after an interrupt: a late reply would be taken for the next pair's
        usable = reply and not overrun.is_set()
        if child is not None and not usable:
            _kill(child)
            child.communicate()
        _children.put(child if usable else None)
    verdict = json.loads(reply) if usable else None
    if verdict is None:
        raise TimeoutError(f"no verdict on {gold!r} and {prediction!r} within {timeout_s} s")
    return verdict


def _start() -> subprocess.Popen:
    """A new child; multiprocessing would import the caller's main module, torch and all."""
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", "from workbench.problems.grading import _serve; _serve()"]
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE) | {"stderr": subprocess.DEVNULL}
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, **pipes, encoding="utf-8", env=env, start_new_session=True)
    if child.stdout.readline() != "ready\n":
        hint = "is math-verify[antlr4_13_2] installed?"
        raise RuntimeError(f"the grading process did not start: {hint}")
    return child


def _kill(child: subprocess.Popen) -> None:
    """It and its fork; neither may be there any more."""
    if not hasattr(os, "killpg"):
        child.kill()
    elif child.poll() is None:
        with suppress(ProcessLookupError, PermissionError):  # it ended just now
            os.killpg(child.pid, signal.SIGKILL)


@atexit.register
def _stop() -> None:
    while not _children.empty():
        if (child := _children.get()) is not None:
            _kill(child)
            child.communicate()


def _serve() -> None:
    """What a child does: a line with a pair in, one with a verdict out, while its parent lives.

    Where it can, it has a fork of itself do so: if that dies of a pair, the next one needs no
    imports, which take longer than most pairs. Such a pair's verdict is null.
    """
    replies, sys.stdout = sys.stdout, sys.stderr
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory()
    _compare("x", "y")  # imports
    print("ready", file=replies, flush=True)
    while hasattr(os, "fork") and (fork := os.fork()):
        _, status = os.waitpid(fork, 0)
        if os.WIFEXITED(status):  # it has read all that there is
            return
        print("null", file=replies, flush=True)
    for line in sys.stdin:
        gold, prediction, timeout_s = json.loads(line)
        if hasattr(signal, "setitimer"):
            # no handler, so it ends this process, whatever that is doing
            signal.setitimer(signal.ITIMER_PROF, timeout_s)
        try:
            verdict = _compare(gold, prediction)
        except Exception:
            verdict = False
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, 0)  # before the reply: a pair has one
        print(json.dumps(verdict), file=replies, flush=True)


def _limit_memory(gib: int = 4) -> None:
    """So that a tower of powers ends in a MemoryError, where the system knows such limits."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (gib << 30, gib << 30))


def _compare(gold: str, prediction: str) -> bool:
    from math_verify import verify
    from sympy.core.random import seed

    seed(0)  # SymPy tries numbers; a verdict shall not depend on what was compared before
    a, b = _parse(gold), _parse(prediction)
    # an interval equals its inequality, in this order alone
    either = _INEQUALITY.search(gold) or _INEQUALITY.search(prediction)
    pairs = ((a, b), (b, a)) if either else ((a, b),)
    same = any(verify(*pair, float_rounding=10, timeout_seconds=None) for pair in pairs)
    return same and not _apart(a, b)


def _apart(a: list, b: list) -> bool:
    """Do two values differ, of which one is infinite or both are too small for ten decimals?"""
    from sympy import Expr

    numbers = [next((x for x in found if isinstance(x, Expr)), None) for found in (a, b)]
    if any(x is None or not x.is_number for x in numbers):
        return False
    x, y = (abs(x.evalf()) for x in numbers)
    if {x.is_finite, y.is_finite} == {True, False}:  # None: not known
        return True
    tiny = x.is_finite and y.is_finite and max(x, y) < 1e-9
    return bool(tiny and abs(x - y) > x / 1000)


def _parse(text: str) -> list:
    """Math-Verify's reading of an answer, whole: maths without delimiters is given some."""
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    config = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all"
    )
    text = re.sub(r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi", text)
    text = text if any(mark in text for mark in ("$", r"\(", r"\[", r"\boxed")) else f"${text}$"
    return parse(text, [LatexExtractionConfig(normalization_config=config)], parsing_timeout=None)
