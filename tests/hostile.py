"""Texts that a model, a file or a person may bring: real solutions, seeded, with things put in that
break parsers, pages and terminals; and a few of a megabyte that one pattern reads for ever."""

import json
import random

from workbench.problems import programs, quantities, stories

REAL = [
    *(problem.solution for problem in quantities.generate(20, levels=[2, 4], seed=5)),
    *(problem.solution for problem in programs.generate(10, levels=[2, 3], seed=5)),
    *(problem.solution for problem in stories.generate(10, levels=[2, 3], seed=5)),
    r"We have $\frac{x}{2} = \sqrt{18}$, so $x = \boxed{6\sqrt{2}}$. I hope it is correct.",
    "He pays 3 * $400 = $1,200 in all.\n#### 1200",
    "Step 1: 12% of 50 is 6. ки\nStep 2: The answer is: 6 ки",
    r"\[\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}\] Answer: $(1, 2) \cup [3, \infty)$",
]
NASTY = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</td></table>", "<!--", "]]>",
    "&lt;b&gt;", '" onmouseover="x', "javascript:1", "\x1b[31m", "\x1b]0;title\x07", "\x00", "\x08",
    "\u202e", "\u2066", "\u200f", "\ud800", "\udfff", "\ud83d", "\ufeff", "é", "𝟙", "٣", "½", "²",
    "9**9**9", "9^{9^{9^{9}}}", "1e999999", "-1E-999999", "10^{10^{10^{10}}}", "99999999!",
    "0x1F", "1/0", r"\frac{1}{0}", "NaN", "inf", "-0", "1_000", "1,2,3", "١٢", "\\", "$", "$$",
    r"\(", r"\]", "{", "}", "{{{{", "}}}}", r"\boxed{", r"\boxed", r"\text{", r"\frac{", r"\sqrt{",
    r"\begin{x}", "####", "The answer is", "answer:", "A:", "I hope", "ки", "\n",
    "\n\n", "\r", "\t", "\u2028",
    "{n}", "{question}", "%s", "${HOME}", "../../x", "' OR 1=1", "__import__('os')", "0" * 5000,
    r"\sqrt{" * 200, "(" * 400, "[" * 1500, "9" * 4500, r"\frac{1}{" * 150, "a" * 300, "-" * 300,
]  # fmt: skip
MEGABYTE = [
    unit * (1_000_000 // len(unit))
    for unit in (
        "a", " ", "\n", "9", "1,000", "1.", "1/", "-", "{", "}", "\\", "$", "#", "#### ", "A: ",
        "answer is ", r"\boxed{", r"\boxed", r"\text{", r"\frac{1}{", "\ud800", "\u202e",
        "<script>", "ки", "ab cd", " \t", "(", "[",
    )
]  # fmt: skip
NESTED = [r"\boxed{" * 90_000 + "7" + "}" * 90_000, "The answer is " + "x" * 900_000 + " y z"]


def texts(n, seed=0):
    """`n` of them: a real text, changed in one to six places."""
    draw = random.Random(seed)
    return [_changed(draw.choice(REAL), draw) for _ in range(n)]


def _changed(text, draw):
    for _ in range(draw.randint(1, 6)):
        at = draw.randint(0, len(text))
        end = min(len(text), at + draw.choice([0, 0, 1, 3, 30]))
        new = draw.choice(NASTY) * draw.choice([1, 1, 1, 2, 40]) if draw.random() < 0.8 else ""
        text = text[:at] + new[:60_000] + text[end:]
    return text


def rows(row, n, seed=0):
    """Lines of a file: a good row as JSON, with a value or the line itself changed."""
    draw, values = random.Random(seed), [*NASTY, None, True, -1, 2**70, 1e308, [], {}, [[]], ""]
    for _ in range(n):
        value = draw.choice(values)
        changed = _put(json.loads(json.dumps(row)), value, draw)
        line = json.dumps(changed).encode()
        if draw.random() < 0.3:
            at = draw.randint(0, len(line))
            odd = [b"[" * 100_000, b'{"a":' * 50_000, b"1e999999", b"9" * 5000, b"\xff", b"\x00"]
            line = line[:at] + draw.choice([b"", *odd]) + line[at + draw.choice([0, 1, 50]) :]
        yield line.replace(b"\n", b" ")


def _put(node, value, draw):
    """The value in the place of some part of the row, or of a field's name."""
    if isinstance(node, (dict, list)) and node and draw.random() < 0.8:
        key = draw.choice([*node] if isinstance(node, dict) else range(len(node)))
        node[key] = _put(node[key], value, draw)
        return node
    return value
