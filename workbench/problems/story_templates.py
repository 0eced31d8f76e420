"""The stories themselves: names, things, and 192 templates of our own writing.

A template is three parts, and an empty line ends it: the question's lines; indented, how its
numbers are drawn; indented, its steps. In a question `{A}` to `{D}` are people, `{she}` and
`{her}` refer to A, `{fruit}` ... are rows of `WORDS`, all else are numbers: `{n}`, `{p}%`,
`{k:times}` (twice), `{k:part}` (half, a third), `{k:word}` (two). What stands in square brackets,
a distractor, is there in every second problem. `n 20..60/5` is drawn from 20, 25 ... 60; `n = k*m`
follows from the others; a number that no slot shows is only there so that a step comes out even.
Of the first sixteen templates of a level every seventh of eight is for validation and every eighth
for testing; of the others, of levels 1 to 3, eight are for these two alone, and sixteen for
training. Of the last eight, the split `answers`, no solution is taught: models learn from what they
write themselves, and the answers (`stories.SPLIT_OF`).
"""

from __future__ import annotations

PEOPLE = {
    "Amira": "she", "Bella": "she", "Chloe": "she", "Daria": "she", "Elif": "she", "Freya": "she",
    "Greta": "she", "Hana": "she", "Ines": "she", "Jana": "she", "Kavya": "she", "Lucia": "she",
    "Adam": "he", "Boris": "he", "Callum": "he", "Diego": "he", "Emre": "he", "Felix": "he",
    "Gavin": "he", "Henrik": "he", "Idris": "he", "Jonas": "he", "Kenji": "he", "Luca": "he",
}  # fmt: skip

WORDS = {
    "fruit": ["apples", "pears", "plums", "peaches", "oranges", "apricots"],
    "sweet": ["cookies", "muffins", "scones", "brownies", "pancakes"],
    "toy": ["marbles", "stickers", "buttons", "beads", "badges", "postcards"],
    "animal": ["sheep", "goats", "ducks", "geese", "hens", "rabbits"],
    "flower": ["roses", "tulips", "daisies", "lilies", "sunflowers"],
    "plant": ["carrots", "onions", "turnips", "cabbages", "leeks"],
    "drink": ["juice", "lemonade", "milk", "water", "tea"],
    "day": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"],
    "place": ["library", "museum", "market", "harbour", "stadium"],
    "shop": ["bakery", "bookshop", "toy shop", "corner shop", "garden centre"],
    "clothes": ["jacket", "sweater", "raincoat", "dress", "scarf"],
    "thing": ["lamp", "chair", "radio", "clock", "kettle", "backpack"],
    "kin": ["brother", "sister", "cousin", "neighbour"],
}

ONE = """
{A} picked {n} {fruit} and gave {k} of them to {her} {kin}. How many {fruit} does {she} have now?
    n 20..60, k 5..18
    left = n - k

A box holds {k} {sweet}. The bakery sold {n} boxes this morning. How many {sweet} is that in all?
    n 4..15, k 6..16
    total = n * k

{n} {toy} are shared equally among {k} children. How many {toy} does each child get?
    k 3..9, m 4..15, n = k*m
    each = n / k

{A} is {n} years old, and {her} {kin} is {k} years younger. [They both live at number {x}.] How old
is the {kin}?
    n 18..60, k 2..14, x 3..90
    age = n - k

A {clothes} costs ${n}. In the sale its price falls by {p}%. By how many dollars does the price
fall?
    n 20..200/20, p 5..60/5
    off = n * p / 100

A train leaves at noon and covers {v} miles every hour. [It has {x} carriages.] How many miles has
it gone after {t} hours?
    v 40..95, t 2..7, x 4..14
    miles = v * t

{A} read {n} pages of a novel on {day} and {k} pages on the next day. How many pages did {she} read
on these two days?
    n 15..60, k 12..48
    pages = n + k

In {k} hours a machine fills {n} bottles with {drink}, always at the same speed. How many bottles
does it fill in one hour?
    k 2..9, m 20..80, n = k*m
    each = n / k

{A} has {n} {toy} in a tin, and {B} has {k} {toy}. How many more {toy} does {A} have than {B}?
    n 35..90, k 8..34
    more = n - k

A rope is {n} feet long. {A} cuts all of it into pieces of {k} feet each. How many pieces does
{she} get?
    k 2..9, m 4..16, n = k*m
    pieces = n / k

One ticket for the zoo costs ${c}. How many dollars do {n} tickets cost?
    n 3..12, c 2.50..9.50/0.50
    cost = n * c

{B} walked {n} miles last week. {A} walked {k:times} as far. How many miles did {A} walk?
    n 6..30, k 2..5
    miles = k * n

A theatre has {n} seats. On {day} evening {k:part} of the seats are taken. How many seats are
taken?
    k 2..5, m 12..60, n = k*m
    taken = n / k

{A} buys a {thing} for ${n} and pays with a ${m} note. How many dollars of change does {she} get?
    n 12..49, m 50..100/50
    change = m - n

A film lasts {n} minutes. {A} has watched {k} minutes of it so far. [The cinema sells {x} kinds of
popcorn.] How many minutes are left?
    n 85..150, k 15..70, x 3..9
    left = n - k

One cake needs {n} grams of flour. How many grams of flour does {A} need for {k} such cakes?
    n 120..450/10, k 2..9
    grams = n * k

A bus has {n} seats, and {k} of them are empty today. [The driver has done this for {x} years.] How
many seats are taken?
    n 40..70, k 4..25, x 3..30
    taken = n - k

A puppy weighs {n} pounds, and its mother weighs {k:times} as much. How many pounds does the mother
weigh?
    n 6..19, k 2..5
    mother = k * n

On the shelf stood {n} jars of honey. {A} puts {k} more beside them. How many jars stand there now?
    n 14..60, k 5..30
    jars = n + k

At noon it is {n} degrees warm in the greenhouse. That is {k} degrees more than outside. How many
degrees warm is it outside?
    n 25..45, k 4..17
    outside = n - k

{A} pays ${n} for {k} {thing}s that all cost the same. How many dollars does one of them cost?
    k 2..9, m 7..30, n = k*m
    one = n / k

{A} planted {n} seeds, and {p}% of them came up. How many seeds came up?
    n 40..200/20, p 20..90/5
    up = n * p / 100

The kitchen of a hotel uses {n} eggs a day. [It has {x} ovens.] How many eggs does it use in {k}
days?
    n 24..90, k 3..9, x 2..6
    eggs = n * k

{n} guests sit down at tables for {k}, and no chair stays empty. How many tables are there?
    k 4..9, m 4..15, n = k*m
    tables = n / k

{A} has saved ${n} and gets another ${k} for {her} birthday. How many dollars does {she} have now?
    n 20..90, k 5..50
    now = n + k

A ladder has {n} rungs, and {A} has climbed {k} of them. How many rungs are still to come?
    n 18..60, k 3..15
    rest = n - k

There are {k} {sweet} in a bag. How many {sweet} are there in {n} such bags?
    n 3..12, k 4..20
    all = n * k

{A} reads {n} pages in {k} days, equally many every day. How many pages does {she} read in a day?
    k 2..9, m 8..30, n = k*m
    daily = n / k

A museum had {n} visitors in the morning and {k} in the afternoon. How many visitors did it have
that day?
    n 30..120, k 20..90
    visitors = n + k

A {thing} costs ${n}, and a {clothes} costs ${k} less than that. How many dollars does the {clothes}
cost?
    n 35..90, k 5..30
    price = n - k

By bus the way takes {n} minutes, and on foot it takes {k:times} as long. How many minutes does it
take on foot?
    n 6..25, k 2..5
    foot = k * n

A box with {n} eggs fell down, and {k:part} of the eggs broke. How many eggs broke?
    k 2..5, m 3..16, n = k*m
    broken = n / k

In a club of {n} people {p}% play the guitar. How many of them play the guitar?
    n 20..160/20, p 10..75/5
    guitar = n * p / 100

A painter mixes {n} litres of blue paint with {k} litres of white paint. How many litres of paint
does that make?
    n 4..30, k 3..25
    paint = n + k

{n} chairs stand in {k} rows that are equally long. How many chairs stand in one row?
    k 3..9, m 5..16, n = k*m
    row = n / k

A pool is {k} metres long, and {A} swims {n} lengths of it. How many metres does {she} swim?
    k 20..50/5, n 4..16
    metres = n * k

On {day} the baker sold {n} rolls, and that was {k} fewer than on Sunday. How many rolls did the
baker sell on Sunday?
    n 40..120, k 8..45
    sunday = n + k

{A} gave {k} {toy} away and still had {n} of them. How many {toy} did {she} have before that?
    n 15..70, k 4..25
    before = n + k

{A} types {n} words a minute. How many words does {she} type in {k} minutes?
    n 25..70, k 3..9
    words = n * k

One can of water is enough for {k} trees. How many cans does {A} need for {n} trees?
    k 2..8, m 3..14, n = k*m
    cans = n / k

A choir has {n} singers, and {k} of them are children. How many of the singers are grown up?
    n 20..60, k 5..18
    grown = n - k

{A} puts {k} {flower} into each of {n} vases. How many {flower} does {she} need?
    n 3..9, k 3..12
    need = n * k

A cinema sold {n} tickets for the early film and {k} for the late one. How many tickets is that?
    n 15..60, k 10..50
    sold = n + k

{A} has {n} metres of ribbon, and each present takes {k} metres. For how many presents is it enough?
    k 2..6, m 3..12, n = k*m
    presents = n / k

A tower is {n} metres high, and the house beside it is {k} metres lower. How many metres high is the
house?
    n 25..70, k 6..20
    house = n - k

A glass of {drink} costs ${c} at the fair. {A} pays for {n} of them. How many dollars is that?
    n 3..12, c 2..6
    pay = n * c

Before the fair {A} had {m} {toy}, and now {she} has {n}. How many {toy} did {she} get at the fair?
    m 8..40, k 4..30, n = m + k
    got = n - m

{A} saws a board of {n} inches into {k:word} equal parts. How many inches long is one part?
    k 2..9, m 3..12, n = k*m
    part = n / k
"""

TWO = """
{A} had {n} {fruit}. {She} ate {a} of them and packed the rest into bags of {k}. How many bags did
{she} fill?
    k 3..8, m 4..9, a 2..9, n = k*m + a
    rest = n - a; bags = rest / k

In a small shop {A} buys {n} notebooks at ${c} each and one pen for ${d}. How many dollars does
{she} pay in all?
    n 3..9, c 1.50..4.50/0.50, d 2..8
    books = n * c; total = books + d

{A} is {n} years old today. {B} is {k:times} as old as {A}. How old will {B} be {j} years from now?
    n 7..16, k 2..5, j 3..12
    age = k * n; later = age + j

A farmer keeps {n} {animal} and {k:times} as many {animal2}. [The farm lies {x} miles from town.]
How many of these animals are there altogether?
    n 8..40, k 2..5, x 4..30
    others = k * n; total = n + others

A {clothes} is marked at ${n}. {A} has a voucher that takes {p}% off the price. How many dollars
does {she} pay?
    n 20..160/20, p 5..60/5
    off = n * p / 100; price = n - off

{A} wants a bicycle that costs ${n}. {She} has ${b} and saves ${a} every week. In how many weeks
will {she} have enough?
    a 6..20, m 5..14, b 20..90, n = a*m + b
    missing = n - b; weeks = missing / a

A school hired {n} buses with {k} seats each for a trip to the {place}. On the way {e} seats stayed
empty. How many people took part?
    n 3..8, k 28..54, e 3..25
    seats = n * k; people = seats - e

The tank behind the greenhouse holds {n} litres of water. Every day the gardener uses {k} litres of
it. How many litres are left after {d} days?
    n 200..500/10, k 8..24, d 3..8
    used = k * d; left = n - used

{A} and {B} have {n} {toy} between them, and {a} of these belong to {A}. Then {B} loses {k}. How
many {toy} does {B} have now?
    n 60..120, a 15..40, k 3..15
    before = n - a; now = before - k

Each of the {n} shelves in a small {shop} holds {k} boxes, and another {m} boxes stand on the
floor. How many boxes are there?
    n 4..14, k 8..30, m 5..40
    shelved = n * k; total = shelved + m

Two classes with {a} and {b} pupils go on a trip together. They walk in groups of {k}. [They set
off at {x} in the morning.] How many groups are there?
    k 4..9, a 15..30, m 5..9, b = k*m - a, x 7..9
    pupils = a + b; groups = pupils / k

{A} helped in the {shop} for {h} hours on {day} and for {g} hours on Saturday. {She} is paid ${c}
an hour. How many dollars did {she} earn?
    h 3..8, g 2..7, c 9..18
    hours = h + g; pay = hours * c

A rectangular field is {a} metres long and {b} metres wide. How many metres of fence does it take
to go all the way round it?
    a 30..95, b 12..60
    half = a + b; fence = 2 * half

Batteries come in packs of {n}, and a pack costs ${c}. How many dollars does {A} pay if {she} needs
{t} batteries?
    n 3..8, m 3..9, t = n*m, c 3..9
    packs = t / n; cost = packs * c

A dinner for {A} and {her} friends costs ${n}. They add a tip of {p}%. [The table stands by the
window, {x} steps from the door.] How many dollars do they pay in all?
    n 40..200/20, p 5..25/5, x 4..20
    tip = n * p / 100; total = n + tip

On a school day {A} practises the violin for {a} minutes and the piano for {b} minutes. How many
minutes of practice is that in {n} school days?
    a 15..40, b 10..35, n 3..12
    daily = a + b; total = daily * n

In one vase there are {n} {flower}. In another vase there are {k} {flower} more than in the first.
How many {flower} are there in the two vases?
    n 6..25, k 3..12
    second = n + k; total = n + second

{A} goes to the {place} with ${n} and buys {k} postcards at ${c} each. How many dollars does
{she} have left?
    n 30..60, k 3..9, c 2..3
    cost = k * c; left = n - cost

{A} cycles for {t} hours at {v} miles an hour. [{She} is {x} years old.] After that it is another
{m} miles to the sea. How many miles long is the way?
    t 2..6, v 8..16, m 5..30, x 15..60
    cycled = t * v; way = cycled + m

There are {n} children in a choir, but {p}% of them are ill today. How many of them can sing?
    n 20..120/20, p 5..40/5
    ill = n * p / 100; sing = n - ill

A cook makes {n} pots of soup with {k} litres in each, and pours all of it into {m} equal cans. How
many litres are in each can?
    n 3..9, m 2..8, e 3..12, k = m*e
    soup = n * k; can = soup / m

A gardener plants {n} {plant} in rows of {k}. Every row gets {w} litres of water. How many litres
of water is that?
    k 5..12, m 3..9, n = k*m, w 4..15
    rows = n / k; litres = rows * w

{A} scored {a} points in the first round and {b} points in the second. {B} scored {c} points in the
two rounds. By how many points is {A} ahead?
    a 15..40, b 15..40, c 10..29
    points = a + b; ahead = points - c

There are {n} {sweet} on a plate. {A} takes {k:part} of them, and {B} takes {m}. How many {sweet}
do they take together?
    k 2..5, e 4..12, n = k*e, m 2..7
    first = n / k; both = first + m

{A} buys {n} loaves of bread at ${c} each and pays with a ${m} note. How many dollars does {she} get
back?
    n 2..6, c 2..7, m 50..100/50
    cost = n * c; back = m - cost

{A} walks {a} minutes to school and as long back home, on {d} days a week. How many minutes does
{she} walk in a week?
    a 8..25, d 3..6
    daily = a * 2; week = daily * d

There were {n} {animal} in a field. Then {k} of them ran away, and {m} others came. How many
{animal} were there in the end?
    n 18..60, k 3..15, m 4..20
    rest = n - k; end = rest + m

For each of {n} guests {A} buys {k} bottles of {drink}. A bottle costs ${c}. How many dollars does
{she} pay?
    n 3..10, k 2..5, c 2..6
    bottles = n * k; cost = bottles * c

{A} gets ${n} a week and spends ${k} of it. After how many weeks has {she} put ${m} aside?
    k 20..70, d 6..25, n = k + d, w 3..12, m = d*w
    aside = n - k; weeks = m / aside

{n} pupils sit in groups of {k}, and every group is given {m} sheets of paper. How many sheets are
given out?
    k 3..7, j 3..9, n = k*j, m 2..12
    groups = n / k; sheets = groups * m

{A} brings home {n} baskets with {k} {fruit} in each, but {m} of these {fruit} are bad. How many are
good?
    n 3..9, k 8..20, m 4..18
    all = n * k; good = all - m

A plank is {n} centimetres long. {A} saws off {k} centimetres and cuts the rest into {m} equal
pieces. How many centimetres long is each piece?
    k 10..60, m 2..8, e 12..40, n = k + m*e
    rest = n - k; piece = rest / m

{A} owns {n} books, and {B} owns {k:times} as many. How many more books does {B} own than {A}?
    n 8..40, k 2..5
    theirs = k * n; more = theirs - n

At practice {A} runs {n} rounds of {k} metres and another {m} metres to the gate. How many metres is
that?
    n 3..9, k 100..400/50, m 40..180/10
    rounds = n * k; all = rounds + m

In a train with {n} seats {p}% of the seats are in first class, and the others in second class. How
many seats are in second class?
    n 100..400/20, p 5..40/5
    first = n * p / 100; second = n - first

A boat trip costs ${c} for a grown-up and ${d} for a child. How many dollars do one grown-up and {n}
children pay for it?
    c 9..25, d 3..8, n 2..7
    children = n * d; all = c + children

{A} cuts a cake into {n} pieces and eats {k} of them. The others go to {m} friends, equally many to
each. How many pieces go to each friend?
    m 2..6, e 2..5, k 1..4, n = m*e + k
    others = n - k; each = others / m

A kiosk sold {n} newspapers on {day} and {k:times} as many on Sunday. How many newspapers did it
sell on these two days?
    n 15..60, k 2..4
    sunday = k * n; both = n + sunday

{A} is {n} years old, and {B} is {k} years younger. {C} is twice as old as {B}. How old is {C}?
    n 15..50, k 3..12
    b = n - k; c = 2 * b

A tank for {n} litres of rain is {k:part} full. How many litres fit in on top of that?
    k 2..5, m 20..90, n = k*m
    there = n / k; room = n - there

{A} bought {n} boxes of {k} crayons and gave {m} of the crayons to {her} {kin}. How many crayons
does {she} still have?
    n 3..8, k 6..12, m 4..16
    all = n * k; left = all - m

A lorry brings {n} crates. The {shop} takes {k} of them, and {m} cafes share the others equally. How
many crates does each cafe get?
    m 2..6, e 3..9, k 4..14, n = m*e + k
    others = n - k; each = others / m

{A} collects stamps and has {n}. {B} has {k} stamps fewer. How many stamps do the two have in all?
    n 12..40, k 3..11
    b = n - k; both = n + b

In a garden there are {n} beds with {k} {plant} each, and {m} {plant} more grow along the fence. How
many {plant} grow there?
    n 3..9, k 4..12, m 5..20
    beds = n * k; all = beds + m

At New Year a club had {n} members. Since then {k} have left it and {m} have joined. How many
members does it have now?
    n 20..60, k 3..12, m 4..20
    rest = n - k; now = rest + m

{A} works {h} hours for ${c} an hour and gives {k:part} of the pay to {her} {kin}. How many dollars
does {she} give away?
    k 2..4, c 4..15, h 2..8
    pay = h * c; given = pay / k

{n} children bring {k} {sweet} each to a party, where {m} guests eat all of them, equally many each.
How many {sweet} does a guest eat?
    n 3..9, k 2..9, m 2..9
    all = n * k; each = all / m

A hat costs ${a}, and a {clothes} costs ${b} more than the hat. How many dollars do the two cost
together?
    a 6..25, b 3..15
    second = a + b; both = a + second
"""

THREE = """
{A} baked {n} trays of {k} {sweet}. {She} sold {s} of them and shared the others equally among {m}
friends. How many {sweet} did each friend get?
    n 4..9, k 8..14, m 3..6, e 3..8, s = n*k - m*e
    baked = n * k; rest = baked - s; each = rest / m

{A} buys {a} kilos of rice at ${c} a kilo and {b} kilos of beans at ${d} a kilo. How many dollars
is that together?
    a 2..9, b 2..9, c 1.50..4.50/0.50, d 2..7
    rice = a * c; beans = b * d; total = rice + beans

{A} has {n} {toy}. {B} has {k} more than {A}, and {C} has {t:times} as many as {B}. How many more
{toy} does {C} have than {A}?
    n 8..40, k 3..20, t 2..4
    b = n + k; c = t * b; more = c - n

A lorry drives for {t} hours at {v} miles an hour and then for {u} hours at {w} miles an hour. How
many miles does it cover?
    t 2..6, v 35..60, u 2..5, w 30..55
    first = t * v; second = u * w; total = first + second

A {thing} costs ${n}, but today everything is {p}% off. {A} pays with ${m}. How many dollars does
{she} get back?
    n 40..140/20, p 5..40/5, m 150..200/50
    off = n * p / 100; price = n - off; back = m - price

There are {n} pupils in a school, and {k:part} of them walk there. Of the others, {b} come by bus
and the rest by bicycle. How many pupils come by bicycle?
    k 2..5, m 30..70, n = k*m, b 12..60
    walk = n / k; others = n - walk; bicycle = others - b

{A} is {n} years old, and {her} mother is {k:times} as old. How old will the mother be when {A} is
{m}?
    n 7..12, k 3..5, m 18..30
    mother = k * n; wait = m - n; later = mother + wait

A printer puts out {r} pages a minute. {A} prints one report of {a} pages and one of {b} pages, and
loses {k} minutes when the paper runs out. How many minutes does it take in all?
    r 6..15, i 3..9, j 4..12, a = r*i, b = r*j, k 2..8
    pages = a + b; printing = pages / r; total = printing + k

{A} works {h} hours for ${a} an hour. {She} spends ${s} of that on food and the rest on books that
cost ${b} each. How many books does {she} buy?
    h 4..9, a 9..16, b 6..14, m 2..8, s = h*a - b*m
    earned = h * a; rest = earned - s; books = rest / b

A wall is {a} feet long and {b} feet high, with a window of {w} square feet that is not painted.
One tin of paint is enough for {c} square feet. How many tins does {A} need?
    a 12..24, b 8..12, c 12..30/2, m 4..12, w = a*b - c*m
    area = a * b; painted = area - w; tins = painted / c

Each of {A}'s {n} hens lays {k} eggs a week. [The oldest hen is {x} years old.] The eggs are sold
in cartons of {c}, for ${d} a carton. How many dollars do the eggs of one week bring?
    n 6..24, k 4..6, c 4..12/2, d 2..6, x 3..7
    eggs = n * k; cartons = eggs / c; income = cartons * d

In the evenings {A} reads {k} pages. After {d} evenings {she} is still reading the same book of {n}
pages and wants to finish it in {m} days, with equally many pages a day. How many pages a day is
that?
    k 12..30, d 4..9, m 3..8, e 10..30, n = k*d + m*e
    read = k * d; left = n - read; daily = left / m

To join the gym {A} pays ${j} once and then ${m} a month. How many dollars will {she} have paid
after {y} years?
    j 20..90/5, m 15..45, y 2..5
    months = y * 12; fees = months * m; total = fees + j

{A} fills {n} jars with {k} {toy} each, while {B} fills {m} jars with {j} {toy} each. How many more
{toy} does {A} put into jars than {B}?
    n 6..12, k 14..30, m 3..9, j 6..14
    a = n * k; b = m * j; more = a - b

A car goes {k} kilometres on one litre of petrol, and a litre costs ${c}. {A} drives {n} kilometres
to the {place} and the same way back. How many dollars of petrol does the trip take?
    k 10..20, m 3..12, n = k*m, c 1.20..2.40/0.05
    distance = n * 2; litres = distance / k; cost = litres * c

Of the {n} guests at a hotel {p}% drink tea at breakfast and {k} drink coffee. [Breakfast ends at
{x}.] The rest want cocoa. How many guests want cocoa?
    n 60..200/20, p 10..50/5, k 10..40, x 9..11
    tea = n * p / 100; some = tea + k; rest = n - some

{A} buys {n} packs of {k} balloons. [{She} pays with a ${x} note.] Of the balloons {m} burst, and
the others are tied in bunches of {b}. How many bunches are there?
    n 3..8, k 8..15, b 3..6, q 4..9, m = n*k - b*q, x 20..50/10
    balloons = n * k; whole = balloons - m; bunches = whole / b

As a tailor {A} works {h} hours a day for ${c} an hour. In {d} days {she} spends ${t} on thread and
cloth. How many dollars does {she} have left of the pay?
    h 4..8, d 2..6, c 10..20, t 20..60
    hours = h * d; pay = hours * c; rest = pay - t

In the morning a stall has {n} {fruit}, and at noon a lorry brings {k:times} as many. By evening
{m} of all of them are left. How many {fruit} were sold?
    n 15..50, k 2..4, m 5..40
    more = k * n; all = n + more; sold = all - m

{A} had {n} {toy} and gave {k:part} of them to {B}. A day later {she} found {m} in a drawer. How
many {toy} does {she} have now?
    k 2..5, e 6..15, n = k*e, m 3..12
    given = n / k; kept = n - given; now = kept + m

A hall has {r} rows of {s} chairs, and {p}% of these chairs are taken. [A concert lasts {x}
minutes.] How many chairs are free?
    r 5..20, s 10..30/5, p 10..90/10, x 60..120/10
    chairs = r * s; taken = chairs * p / 100; free = chairs - taken

For {w} weeks {A} saves ${a} a week, and then {her} aunt adds another ${g}. With all of this
money {she} buys games that cost ${c} each. How many games does {she} get?
    a 5..15, w 3..9, c 12..30, q 3..8, g = c*q - a*w
    saved = w * a; money = saved + g; games = money / c

A ferry makes {n} trips before noon and {m} trips later, each time with {k} people on board. [It
has {x} lifeboats.] Every passenger pays ${c}. How many dollars does the ferry take?
    n 2..6, m 2..7, k 15..40, c 2..6, x 2..8
    trips = n + m; people = trips * k; money = people * c

{A} is {n} centimetres tall. {B} is {k} centimetres taller than {A}, and {C} is {m} centimetres
shorter than {B}. How many centimetres do {A} and {C} measure together?
    n 120..150, k 8..30, m 3..25
    b = n + k; c = b - m; both = n + c

{A} buys {a} pens at ${c} each and a calendar for ${b}, and pays with a ${m} note. How many dollars
of change is that?
    a 2..8, c 2..4, b 6..15, m 50..100/50
    pens = a * c; all = pens + b; change = m - all

A stall has {n} boxes of {k} {fruit}. It throws {m} bad ones away and sells the others for ${c}
each. How many dollars does it take?
    n 3..8, k 8..16, m 4..15, c 1..3
    all = n * k; good = all - m; money = good * c

There are {n} people in a bus. At the first stop {a} get off and {b} get on, and at the second stop
{c} get off. How many people are in the bus after that?
    n 25..60, a 3..12, b 4..15, c 5..14
    after = n - a; more = after + b; last = more - c

{A} runs {a} kilometres on each of {d} days and {b} kilometres on Sunday. In the same week {B} runs
{c} kilometres less than {A}. How many kilometres does {B} run?
    a 4..9, d 3..6, b 6..18, c 5..15
    days = a * d; own = days + b; other = own - c

Of the ${n} that {A} earns in a week {she} keeps {p}%. [{Her} desk is {x} years old.] How many
dollars does {she} have after {w} weeks if {she} had ${s} before?
    n 100..400/20, p 5..40/5, w 3..9, s 15..90, x 2..20
    kept = n * p / 100; all = kept * w; total = all + s

From {n} metres of cloth {A} makes {k} dresses of {a} metres each, and {m} equal curtains from the
rest. How many metres does a curtain take?
    k 3..8, a 2..4, m 2..6, e 2..5, n = k*a + m*e
    dresses = k * a; rest = n - dresses; curtain = rest / m

{n} children bring {k} {toy} each and put all of them into {m} boxes, equally many into each. {A}
carries {b} of these boxes. How many {toy} does {she} carry?
    m 4..8, j 2..5, n = m*j, k 4..12, b 2..3
    all = n * k; box = all / m; carried = box * b

{A} picks {n} {flower}, and {B} picks {k} fewer. {C} picks {t:times} as many as {B}. How many
{flower} do {B} and {C} pick together?
    n 15..40, k 3..10, t 2..4
    b = n - k; c = t * b; both = b + c

A theatre has {r} rows of {s} seats. For tonight {n} tickets were sold before and {m} at the door.
How many seats stay empty?
    r 8..20, s 12..25, n 30..70, m 8..25
    seats = r * s; sold = n + m; empty = seats - sold

A fence is {a} metres long and {b} metres high. One litre of paint covers {k} square metres of it
and costs ${c}. How many dollars does the paint cost?
    k 3..8, j 4..9, a = k*j, b 2..3, c 4..12
    area = a * b; litres = area / k; cost = litres * c

A machine makes {k} cups an hour and runs for {h} hours a day. Every day {m} of the cups are faulty.
How many good cups does it make in {d} days?
    k 15..60, h 5..10, m 4..20, d 2..6
    daily = k * h; good = daily - m; all = good * d

{A} learns {a} new words on Monday, twice as many on Tuesday and {b} on Wednesday. How many words is
that together?
    a 8..30, b 5..25
    tuesday = 2 * a; two = a + tuesday; all = two + b

A school orders {n} atlases at ${c} each and pays ${s} for the parcel. The {k} classes share the
bill equally. How many dollars does each class pay?
    n 4..9, c 12..30, k 3..8, e 40..90, s = k*e - n*c
    atlases = n * c; bill = atlases + s; each = bill / k

A van needs a litre of petrol for {k} kilometres. {A} starts with {m} litres, drives {n} kilometres
and then fills in {f} litres. How many litres are in the tank then?
    k 8..15, j 6..20, n = k*j, e 5..25, m = j + e, f 10..30
    used = n / k; rest = m - used; tank = rest + f

{A} had ${n}. {She} spent {k:part} of it on a ticket and ${m} on a meal. How many dollars were left
after the meal?
    k 2..5, e 12..30, n = k*e, m 4..11
    ticket = n / k; rest = n - ticket; left = rest - m

On a farm {A} plants {r} rows of {k} {plant}, but {p}% of them do not come up. How many come up?
    r 5..20, k 10..30/5, p 10..60/10
    all = r * k; lost = all * p / 100; up = all - lost

{A} has a book of {n} pages. {She} reads {a} pages on each of {d} evenings and {b} on Sunday. How
many pages are left after that?
    a 5..12, d 2..6, b 3..15, e 5..20, n = a*d + b + e
    evenings = a * d; read = evenings + b; left = n - read

{A} buys {n} packs of {k} cards and finds {m} more cards at home. {She} deals all of them to {j}
players, equally many to each. How many cards does a player get?
    n 2..6, k 5..10, j 3..6, e 4..10, m = j*e - n*k
    bought = n * k; all = bought + m; each = all / j

A bakery makes {n} {sweet}. In the morning it sells {k:part} of them, and in the afternoon {m}. How
many {sweet} are not sold?
    k 2..5, e 6..12, n = k*e, m 3..9
    morning = n / k; rest = n - morning; left = rest - m

{A} finds {n} shells. {B} finds {k:times} as many, and {C} finds {m} fewer than {B}. How many more
shells does {C} find than {A}?
    n 5..15, k 2..4, m 2..6
    b = k * n; c = b - m; more = c - n

{A} puts ${a} aside every week. After {w} weeks {she} buys a {thing} for ${t}, and then an
uncle adds ${g}. How many dollars does {A} have now?
    a 4..12, w 3..8, t 10..30, g 3..20
    saved = a * w; left = saved - t; now = left + g

Of the {n} seats in a tram {p}% are taken. At the next stop {a} people get on, and each finds a
seat. How many seats are free then?
    n 20..50/10, p 10..60/10, a 3..9
    taken = n * p / 100; more = taken + a; free = n - more

{A} mows lawns for {h} hours at ${c} an hour, and {B} for {g} hours at ${d} an hour. How many
dollars more does {A} earn than {B}?
    h 3..8, c 5..12, g 2..6, d 4..10
    a = h * c; b = g * d; more = a - b

A hall has {n} tables with {k} chairs each. {m} of the chairs are broken, and the others are put
into {j} equal piles. How many chairs are in a pile?
    n 3..9, k 4..6, j 3..6, e 4..9, m = n*k - j*e
    chairs = n * k; whole = chairs - m; pile = whole / j
"""

FOUR = """
An orchard has {r} rows of {t} trees, and every tree gives {k} kilos of {fruit}. The owner sells
{p}% of the harvest. How many kilos does the owner keep?
    r 4..12, t 5..15, k 10..40/5, p 20..90/10
    trees = r * t; kilos = trees * k; sold = kilos * p / 100; kept = kilos - sold

For the new term {A} buys {a} pens at ${c} each and {b} pads at ${d} each, and pays with a ${m}
note. How many dollars of change does {she} get?
    a 3..9, c 1.25..3.50/0.25, b 2..6, d 2..5, m 100..200/100
    pens = a * c; pads = b * d; cost = pens + pads; change = m - cost

{A} caught {n} fish. {B} caught {k} more than {A}, and {C} caught {t:times} as many as {B}. How
many fish did the three of them catch together?
    n 4..15, k 2..9, t 2..4
    b = n + k; c = t * b; two = n + b; total = two + c

{s} pupils and {t} teachers go to the {place} in buses that hold {k} people each, all of them full.
A bus costs ${c}, and the school has put aside ${m}. How many dollars are left afterwards?
    k 20..40/2, j 2..5, t 4..15, s = k*j - t, c 80..200/10, e 20..150/5, m = j*c + e
    people = s + t; buses = people / k; cost = buses * c; left = m - cost

On weekdays {A} earns ${c} an hour, on Sundays {k:times} that. Last week {she} worked {h} hours on
weekdays and {g} hours on Sunday. How many dollars did {she} earn?
    c 9..20, k 2..3, h 12..38, g 3..8
    weekdays = h * c; rate = k * c; sunday = g * rate; total = weekdays + sunday

For a good cause {A} ran {a} miles on each of {d} days, and {B} ran {b} miles on each of {e} days.
[{A}'s shoes are size {y}.] A sponsor gives ${x} a mile. How many dollars does the sponsor give?
    a 3..9, d 4..10, b 2..8, e 3..9, x 2..9, y 36..46
    ran = a * d; other = b * e; miles = ran + other; money = miles * x

A baker has {n} kilos of dough and makes loaves of {g} grams. All loaves are sold for ${p} each,
and the dough had cost ${c}. How many dollars are left over?
    n 8..40, g 400..800/50, p 3..6, c 20..60
    grams = n * 1000; loaves = grams / g; income = loaves * p; left = income - c

A phone costs ${n}. {A} pays {p}% of that at once and the rest in {m} equal monthly rates. Each
month {she} also pays ${i} for insurance. How many dollars a month is that in all?
    n 200..900/20, p 10..40/5, m 6..15, i 4..15
    first = n * p / 100; rest = n - first; rate = rest / m; monthly = rate + i

A pump brings {a} litres a minute into a pool that loses {l} litres a minute through a crack. There
are {n} litres in the pool, and {c} litres fill it. Running the pump costs {x} cents a minute. How
many cents does it cost to fill the pool?
    a 30..80, l 5..20, m 10..60, n 100..600/20, d = a - l, q = d*m, c = n + q, x 2..9
    gain = a - l; missing = c - n; minutes = missing / gain; cost = minutes * x

In a garden there are {a} beds with {b} tomato plants each. After a storm {c} plants are broken,
and each of the others gives {t} tomatoes. {A} gives {e} tomatoes away. How many does {she} keep?
    a 4..9, b 8..16, c 5..25, t 6..20, e 30..120
    plants = a * b; healthy = plants - c; tomatoes = healthy * t; kept = tomatoes - e

In three games {A} scored {a}, {b} and {c} points. {Her} coach had hoped for an average of {g}. By
how many points is {her} average below that?
    a 8..30, b 10..30, m 12..26, s = 3*m, t = s - a, c = t - b, d 2..12, g = m + d
    two = a + b; all = two + c; average = all / 3; below = g - average

In {A}'s money box there are {q} coins of 25 cents and {d} coins of 10 cents. {She} takes out {s}
cents for a card. How many cents are left in the box?
    q 5..20, d 6..30, s 90..180/5
    quarters = q * 25; dimes = d * 10; all = quarters + dimes; left = all - s

A van may carry {w} kilos. {A} has loaded {n} crates of {k} kilos and {m} crates of {j} kilos. How
many more kilos may {she} load?
    n 4..12, k 12..30, m 3..10, j 8..24, e 20..200/5, w = n*k + m*j + e
    first = n * k; second = m * j; load = first + second; left = w - load

{A} is {n} years old. {B} is {k} years older than {A}, {C} is {t:times} as old as {B}, and {D} is
{j} years younger than {C}. [{A} and {B} went to the same school.] How old will {D} be in {m}
years?
    n 6..14, k 2..8, t 2..4, j 3..12, m 5..20
    b = n + k; c = t * b; d = c - j; later = d + m

The library charges {c} cents a day for each book that comes back late, and {f} cents for each late
film. {A} returns {a} books {d} days late and pays for {e} films as well. How many cents does {she}
pay?
    c 5..25/5, f 40..120/10, a 2..7, d 3..12, e 2..6
    days = a * d; books = days * c; films = e * f; total = books + films

A hall has {r} rows with {s} seats. For a concert {p}% of the seats were sold, at ${c} each. The
band was paid ${x}. How many dollars remain?
    r 10..24, s 10..30/5, p 40..90/10, c 8..30, x 300..900/50
    seats = r * s; sold = seats * p / 100; income = sold * c; remain = income - x
"""

FIVE = """
{A} sells {sweet} at the school fair. {She} bakes {n} trays of {k}. Of all these, {b} are burnt.
The rest go into bags of {m}, which sell for ${c} a bag. Flour and sugar had cost ${d}. How many
dollars does {she} make after paying for them?
    k 8..16, n 4..9, m 3..6, i 6..15, b = n*k - m*i, c 3..8, d 8..17
    baked = n * k; good = baked - b; bags = good / m; income = bags * c; profit = income - d

A rectangular garden is {a} metres long and {b} metres wide. {A} puts up a fence round it, but
leaves {g} metres open for a gate. A metre of fence costs ${c}, and the gate itself costs ${d}. How
many dollars does {she} spend?
    a 15..50, b 8..30, g 2..5, c 6..18, d 60..180/10
    half = a + b; round = 2 * half; fence = round - g; price = fence * c; total = price + d

{A} earns ${n} a month. {She} spends {p}% of it on rent and ${f} on food, and puts what is left in
equal shares into {k:word} savings accounts. [{Her} flat is on floor {x}.] How many dollars will
there be in each account after {m} months?
    n 1200..2400/100, p 25..50/5, f 200..400/20, k 2..4, m 3..12, x 2..9
    rent = n * p / 100; spent = rent + f; left = n - spent; each = left / k; saved = each * m

{A} and {B} pick {fruit}. {A} picks {a} kilos an hour for {h} hours, and {B} picks {b} kilos an
hour for {g} hours. They keep {k} kilos and sell the others for ${c} a kilo. How many dollars do
they take?
    a 6..14, h 3..8, b 5..12, g 2..7, k 8..30, c 2..6
    first = a * h; second = b * g; all = first + second; sold = all - k; money = sold * c

A class of {n} pupils plans a trip. The bus costs ${b} and the tickets cost ${t} for each pupil.
The class has earned ${e} with a cake sale. The rest is shared equally. How many dollars more does
each pupil pay than the ${x} that the teacher had promised?
    n 16..30, t 6..14, x 4..9, d 2..8, b 180..420/10, y = x + d, z = y*n, e = b + n*t - z
    tickets = n * t; cost = b + tickets; rest = cost - e; each = rest / n; more = each - x

A gift shop had {n} candles. On {day} it sold {p}% of them, and on Saturday {k:part} of what was
left. The remaining candles went out for ${c} each. How many dollars did the remaining candles
bring?
    n 80..300/20, p 10..60/10, k 2..5, c 2..9
    first = n * p / 100; left = n - first; second = left / k; rest = left - second; money =
    rest * c

{A} cycles for {a} hours at {v} kilometres an hour, rests, and cycles for {b} hours at {w}
kilometres an hour. [The rest lasts {x} minutes.] The whole tour is {n} kilometres long, and {she}
wants to ride the remaining part in {d} equal days. How many kilometres a day is that?
    a 2..5, v 14..24, b 2..4, w 10..20, d 2..6, e 15..45, n = a*v + b*w + d*e, x 15..50
    first = a * v; second = b * w; done = first + second; left = n - done; daily = left / d

{A} has {n} {toy}. {B} has {k:times} as many, and {C} has {j} fewer than {B}. They put all of them
together and share them equally among {m} children. How many {toy} does each child get?
    m 3..6, e 8..30, n 10..30, k 2..4, z = m*e, y = n + k*n + k*n, j = y - z
    b = k * n; c = b - j; two = n + b; all = two + c; each = all / m

A farmer has {a} cows that give {l} litres of milk a day each. The family drinks {f} litres a day,
and the rest is sold for {c} cents a litre. How many dollars does the milk bring in {d} days?
    a 6..20, l 15..28, f 3..9, c 40..100/10, d 5..20
    milk = a * l; sold = milk - f; cents = sold * c; daily = cents / 100; income = daily * d

{A}'s recipe makes {k} {sweet} from {f} grams of flour. {She} wants {g} {sweet} for each of {n}
guests. Flour comes in bags of {h} grams, and {she} has {i} bags. How many grams will be left over?
    k 8..24/2, f 200..400/20, g 2..6, n 6..24, h 500..1000/500, i 2..6
    wanted = g * n; batches = wanted / k; needed = batches * f; flour = i * h; left = flour -
    needed

An office orders {a} chairs at ${c} and {b} desks at ${d}. Because the order is large, the seller
takes {p}% off the whole price. How many dollars must the office pay?
    a 4..14, c 30..70/5, b 2..8, d 80..200/20, p 5..25/5
    chairs = a * c; desks = b * d; price = chairs + desks; off = price * p / 100; pay = price - off

{A} reads {a} pages an hour and {B} reads {b} pages an hour. Both read {h} hours a day for {d}
days. How many pages more has {A} read than {B} if {B} also read {e} pages on the train?
    a 30..48, b 18..29, h 2..5, d 3..9, e 5..20
    hours = h * d; first = hours * a; second = hours * b; other = second + e; more = first - other

At the {place} a guided tour costs ${c} for a grown-up and {k:part} of that for a child. {a}
grown-ups and {b} children take the tour, and they leave a tip of ${t}. How many dollars do they
pay?
    k 2..4, m 3..8, c = k*m, a 3..12, b 4..20, t 5..20
    child = c / k; adults = a * c; children = b * child; tickets = adults + children;
    total = tickets + t

{A} fills {n} bottles of {drink} from a barrel of {l} litres. Each bottle takes {m} millilitres.
What stays in the barrel is poured into glasses of {g} millilitres, which are sold for ${c} each.
How many dollars do the glasses bring?
    n 6..20, m 500..750/250, g 200..300/50, l 12..30, c 2..5
    poured = n * m; barrel = l * 1000; rest = barrel - poured; glasses = rest / g; money =
    glasses * c

A cinema sold {a} tickets on {day}, {k:times} as many on Saturday, and {j} fewer on Sunday than on
Saturday. [The longest film ran for {x} minutes.] A ticket costs ${c}. How many dollars did it take
on these three days?
    a 40..120, k 2..4, j 10..60, c 7..14, x 110..180
    saturday = k * a; sunday = saturday - j; two = a + saturday; all = two + sunday; money =
    all * c

A boat uses {f} litres of fuel an hour and travels {v} miles an hour. {A} plans a trip of {n} miles
there and back over the same way. The tank holds {t} litres now. A litre costs ${c}. How many
dollars of fuel must {she} buy?
    v 8..20, m 3..7, n = v*m, f 6..15, c 2..5, e 10..50, q = 2*m, r = q*f, t = r - e
    way = n * 2; hours = way / v; fuel = hours * f; missing = fuel - t; cost = missing * c
"""

SIX = """
{A} keeps {n} hens that lay {k} eggs each a week. {She} needs {u} of these eggs at home and sells
the others in cartons of {c}, for ${d} a carton. The feed costs ${f} a week. How many dollars are
left over after {w} weeks?
    n 8..20, k 4..6, c 4..12/2, i 3..9, u = n*k - c*i, d 3..6, f 3..12, w 2..8
    eggs = n * k; sold = eggs - u; cartons = sold / c; income = cartons * d; weekly = income - f;
    total = weekly * w

A circus tent has {r} rows of {s} seats, and tonight all are sold. {p}% of the seats went to
children, who pay ${c} each. Everybody else pays ${d}. [The show lasts {x} minutes.] How many
dollars does the circus take tonight?
    r 8..20, s 10..30/5, p 20..60/10, c 4..9, d 10..18, x 70..120/10
    seats = r * s; children = seats * p / 100; others = seats - children; young = children * c;
    old = others * d; total = young + old

{A} wants to paint {n} walls. Each of them is {a} feet long and {b} feet high, but doors and
windows take up {w} square feet in all. One tin covers {c} square feet and costs ${d}. A set of
brushes costs ${e}. How many dollars must {she} spend?
    n 2..4, a 10..18, b 8..10, c 20..40/5, i 5..14, w = n*a*b - c*i, d 12..30, e 8..25
    wall = a * b; walls = n * wall; painted = walls - w; tins = painted / c; cost = tins * d;
    total = cost + e

{A} and {her} friends, {m} people in all, drive {n} kilometres to a lake and the same way home. The
car needs {f} litres of petrol for every 100 kilometres, and a litre costs ${c}. Parking costs
${t}. They share everything equally. How many dollars does each of them pay?
    m 2..5, n 100..400/50, f 5..9, c 2..3, e 20..70, t = m*e - 2*n/100*f*c
    way = n * 2; hundreds = way / 100; litres = hundreds * f; petrol = litres * c;
    cost = petrol + t; each = cost / m

A bakery has {n} loaves. In the morning it sells {k:part} of them for ${c} each. At noon the price
goes down by ${d}, and by the evening the rest are sold. How many dollars does the bakery take?
    k 2..5, m 10..30, n = k*m, c 4..9, d 1..3
    morning = n / k; rest = n - morning; first = morning * c; price = c - d; second = rest * price;
    total = first + second

{A} is {n} years old. {B} is {k} years older than {A}. {C} is {t:times} as old as {B}, and {D} is
{j} years younger than {C}. [They all live in house number {x}.] How many years old are the four of
them together?
    n 5..15, k 2..9, t 2..4, j 3..12, x 3..90
    b = n + k; c = t * b; d = c - j; two = n + b; three = two + c; all = three + d

Every week {A} mows {a} lawns at ${c} each and washes {b} cars at ${d} each. {She} gives {p}% of
the money to {her} {kin}, who helps, and saves the rest. How many dollars has {she} saved after {w}
weeks?
    a 2..8, c 10..20, b 3..9, d 5..15, p 10..40/5, w 3..9
    lawns = a * c; cars = b * d; earned = lawns + cars; gift = earned * p / 100;
    rest = earned - gift; saved = rest * w

At the market {A} buys {n} crates with {k} kilos of {fruit} each, at ${c} a crate. {b} kilos turn
out to be spoiled. The others are sold at ${d} a kilo, and the stand costs ${f} for the day. How
many dollars does {A} gain?
    n 4..12, k 8..20, c 10..18, b 3..15, d 3..6, f 5..30
    cost = n * c; kilos = n * k; good = kilos - b; income = good * d; more = income - cost;
    gain = more - f

A pool is {a} metres long, {b} metres wide and {d} metres deep. A cubic metre is 1000 litres. The
pump brings {q} litres a minute and costs ${c} an hour. How many dollars does it cost to fill the
empty pool?
    a 4..15, b 3..10, d 2..4, q 100..500/50, c 2..8
    floor = a * b; volume = floor * d; litres = volume * 1000; minutes = litres / q;
    hours = minutes / 60; cost = hours * c

A school has {n} classes of {k} pupils. {p}% of all the pupils go skiing, and {t} teachers go with
them. A bus takes {s} people and costs ${c}; no seat stays empty. Parents have given ${m}. How many
dollars of that are left when the buses are paid?
    n 4..12, k 20..30, p 20..60/10, t 5..20, s 24..48/2, c 80..200/10, m 700..1500/50
    pupils = n * k; skiers = pupils * p / 100; people = skiers + t; buses = people / s;
    cost = buses * c; left = m - cost

{A} bakes {n} trays of {k} {sweet} and {B} bakes {m} trays of {j}. {B} drops {e} {sweet} on the way
to the fair. There both sell everything they have left at ${c} each. How many more dollars does {A}
take than {B}?
    n 5..9, k 10..18, m 3..6, j 8..14, e 2..9, c 2..4
    a = n * k; b = m * j; left = b - e; first = a * c; second = left * c; more = first - second

A phone plan costs ${b} a month, and {f} minutes of calls are free. Every other minute costs {x}
cents. {A} calls {m} minutes a day on {d} days of the month. How many dollars does {she} pay for
{w} months like this one?
    b 6..20, f 100..200/20, x 2..10, m 12..30, d 15..28, w 2..9
    minutes = m * d; extra = minutes - f; cents = extra * x; calls = cents / 100; month = calls
    + b;
    total = month * w

A field is {a} metres long and {b} metres wide. On {p}% of it grow {plant}, which give {k} kilos a
square metre. A kilo sells for ${c}. Seeds and water had cost ${s}. The {m:word} partners share
what is left equally. How many dollars does each partner get?
    a 20..50/5, b 10..40/5, p 20..80/10, k 2..5, c 2..3, s 100..900/10, m 2..5
    area = a * b; planted = area * p / 100; kilos = planted * k; income = kilos * c;
    profit = income - s; each = profit / m

{A} had ${n} and spent {k:part} of it on a {thing}. Then {she} got ${g} for {her} birthday and
bought {a} books at ${c} each. What remained {she} shared equally among {m} cousins. How many
dollars did each cousin get?
    k 2..4, i 20..60, n = k*i, g 20..80/5, a 2..5, c 6..15, m 2..6
    spent = n / k; left = n - spent; more = left + g; books = a * c; rest = more - books;
    each = rest / m

In a workshop {m} machines make {k} screws a minute each and run for {h} minutes. {p}% of the
screws are faulty and are thrown away. The good ones are packed in boxes of {q}, and a box sells
for ${c}. [The workshop is {x} years old.] How many dollars do the boxes bring?
    m 3..8, k 10..30/5, h 20..60/10, p 5..20/5, q 20..100/10, c 3..9, x 5..60
    rate = m * k; screws = rate * h; faulty = screws * p / 100; good = screws - faulty;
    boxes = good / q; income = boxes * c

{A} hikes a trail of {n} kilometres. On the first day {she} walks {a} kilometres, on the second day
{k:times} as far, and on the third day {j} kilometres less than on the second. {She} wants to walk
equally far on each of the last {d} days. How many kilometres a day is that?
    a 6..12, k 2..3, j 2..8, d 2..6, e 8..20, n = a + k*a + k*a - j + d*e
    second = k * a; third = second - j; two = a + second; done = two + third; left = n - done;
    daily = left / d
"""

STORIES = {1: ONE, 2: TWO, 3: THREE, 4: FOUR, 5: FIVE, 6: SIX}
