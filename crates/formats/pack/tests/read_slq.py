#!/usr/bin/env python3
"""Reads a .slq file by docs/slq-format.md alone and prints what it holds.

    python3 read_slq.py fixtures/adaptive.slq > fixtures/adaptive.txt

Needs nothing but Python 3.9. Made to check that the page describes the format completely: dictionary, words and
constants are taken from the page, and the Rust tests compare their own account of the fixtures with this one.
"""
import pathlib
import re
import struct
import sys
import zlib

PAGE = (pathlib.Path(__file__).parents[4] / "docs/slq-format.md").read_text()


def block(name):
    return re.search(r"<!-- %s -->\n```text\n(.*?)\n```" % name, PAGE, re.S).group(1)


DICTIONARY = block("dictionary").replace("\n", "").encode()
WORDS = ["" if word == "(empty)" else word for word in block("words").split()]
KNOTS = [int(n) for n in block("knots").split()]
SIXTEENTHS = [int(n) for n in re.search(r"T\[i\] = .*? rounded: ([\d \n]+)\.", PAGE).group(1).split()]
TYPES = dict(enumerate("float32 float64 float16 bfloat16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool".split(), 1))
SIZES = dict(zip(TYPES, [4, 8, 2, 2, 8, 4, 2, 1, 8, 4, 2, 1, 1]))


class Input:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data), "the section ends too early"
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self):
        return self.take(1)[0]

    def number(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self):
        return unzigzag(self.number())

    def floats(self, count):
        return list(struct.unpack("<%df" % count, self.take(4 * count)))

    def words(self, count):
        return list(struct.unpack("<%dI" % count, self.take(4 * count)))


class Bits:
    def __init__(self, source):
        self.source, self.word, self.held = source, 0, 0

    def get(self, count):
        while self.held < count:
            self.word |= self.source.byte() << self.held
            self.held += 8
        value = self.word & ((1 << count) - 1)
        self.word >>= count
        self.held -= count
        return value


def unzigzag(z):
    return z >> 1 if z & 1 == 0 else -(z >> 1) - 1


def product(dims):
    result = 1
    for dim in dims:
        result *= dim
    return result


# Network ---------------------------------------------------------------------------------------------------------


class Network:
    def __init__(self, section):
        source = Input(section)
        deflated, length = source.byte(), source.number()
        content = source.take(len(section) - source.at)
        if deflated:
            content = zlib.decompressobj(-15, zdict=DICTIONARY).decompress(content)
        assert len(content) == length
        self.input, self.texts = Input(content), []
        self.lines = []
        self.name = self.text()
        opset = self.input.signed()
        domains = [(self.text(), self.input.signed()) for _ in range(self.input.number())]
        producer, doc = self.text(), self.text()
        self.lines.append(f"network {self.name!r} opset {opset} {domains} producer {producer!r} doc {doc!r}")
        for _ in range(self.input.number()):
            self.lines.append(f"property {self.text()!r} {self.text()!r}")
        inputs = self.values("input")
        self.values("output")
        self.weights = [self.weight() for _ in range(self.input.number())]
        section = 0
        for weight in self.weights:
            section += weight["section"]
            weight["section"] = section
        self.activations, self.next_weight = inputs, 0
        for _ in range(self.input.number()):
            self.node()
        assert self.input.at == len(content)

    def text(self):
        index = self.input.number()
        if index == 0:
            self.texts.append(self.input.take(self.input.number()).decode())
            return self.texts[-1]
        return WORDS[index - 1] if index <= len(WORDS) else self.texts[len(WORDS) - index]

    def values(self, kind):
        names = []
        for _ in range(self.input.number()):
            name, dtype, rank = self.text(), TYPES[self.input.byte()], self.input.number()
            shape = None if rank == 0 else [self.dim() for _ in range(rank - 1)]
            self.lines.append(f"{kind} {name!r} {dtype} {shape}")
            names.append(name)
        return names

    def dim(self):
        number = self.input.number()
        return "?" if number == 0 else self.text() if number == 1 else number - 2

    def shape(self):
        return [self.input.number() for _ in range(self.input.number())]

    def weight(self):
        weight = {"name": self.text()}
        flags = self.input.byte()
        weight["dtype"], weight["shape"] = flags & 15, self.shape()
        weight["rates"] = self.input.floats(2) if flags & 0x10 else [1.0, 1.0]
        weight["form"] = {0: "values", 0x20: "palette", 0x40: "dictionary"}[flags & 0xE0]
        weight["k"] = self.input.number() if flags & 0x60 else 0
        weight["groups"] = self.input.number() if flags & 0x20 else 1
        weight["section"] = self.input.signed()
        return weight

    def reference(self):
        number = self.input.number()
        if number < 2:
            return self.text() if number else ""
        if number % 2 == 0:
            return self.activations[-(number // 2)]
        at = self.next_weight + unzigzag((number - 3) // 2)
        self.next_weight = at + 1
        return self.weights[at]["name"]

    def node(self):
        op, domain, name = self.text(), self.text(), self.text()
        inputs = [self.reference() for _ in range(self.input.number())]
        outputs = [self.text() for _ in range(self.input.number())]
        self.activations = self.activations + outputs
        attributes = [f" {self.text()}={self.attribute()}" for _ in range(self.input.number())]
        self.lines.append(f"node {op!r} {domain!r} {name!r} {inputs} {outputs}" + "".join(attributes))

    def attribute(self):
        kind, source = self.input.byte(), self.input
        if kind == 1:
            return source.signed()
        if kind == 2:
            return "%08x" % source.words(1)[0]
        if kind in (3, 8):
            return source.take(source.number()).hex() or "-"
        if kind == 4:
            return [source.signed() for _ in range(source.number())]
        if kind == 5:
            return ["%08x" % word for word in source.words(source.number())]
        if kind == 6:
            return [source.take(source.number()).hex() for _ in range(source.number())]
        dtype, shape = source.byte(), self.shape()
        planes = [source.take(product(shape)) for _ in range(SIZES[dtype])]
        return f"{TYPES[dtype]}{shape}{join(dtype, planes).hex()}"


# Streams ---------------------------------------------------------------------------------------------------------


def bits_for(alphabet):
    return max(1, (alphabet - 1).bit_length())


class Lane:
    """A rANS stack."""

    def __init__(self, data):
        data += bytes(-len(data) % 4)
        self.words = list(struct.unpack("<%dI" % (len(data) // 4), data))
        self.state = 0
        while self.words and self.state < 1 << 32:
            self.state = self.state << 32 | self.words.pop()

    def decode(self, precision, find):
        q = self.state & ((1 << precision) - 1)
        symbol, start, length = find(q)
        self.state = length * (self.state >> precision) + q - start
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return symbol

    def end(self):
        assert self.state == 0 and not self.words, "the stream does not end with its last symbol"


def stream(source, count, alphabet, contexts):
    method = source.byte()
    bits = bits_for(alphabet)
    block = 1 << (20 if method == 3 else 18)
    lengths = [min(block, count - start) for start in range(0, count, block)]
    symbols = []
    if method == 0:
        for length in lengths:
            part = Bits(source)
            symbols += [part.get(bits) for _ in range(length)]
    elif method in (1, 2):
        precision, frequencies = table(source, alphabet)
        quantiles = []
        start = 0
        for symbol, length in enumerate(frequencies):
            quantiles += [(symbol, start, length)] * length
            start += length
        lanes = 1 if method == 1 else 4
        sizes = [source.number() for _ in range(lanes * len(lengths))]
        for index, length in enumerate(lengths):
            stacks = [Lane(source.take(size)) for size in sizes[index * lanes :][:lanes]]
            symbols += [stacks[i % lanes].decode(precision, quantiles.__getitem__) for i in range(length)]
            [stack.end() for stack in stacks]
    elif method == 3:
        flags, rate = source.byte(), source.byte()
        sizes = [source.number() for _ in lengths]
        for length, size in zip(lengths, sizes):
            lane = Lane(source.take(size))
            model = contexts(len(symbols), length, bits, flags)
            symbols += adaptive(lane, model, length, bits, flags, rate)
            lane.end()
    assert all(symbol < alphabet for symbol in symbols)
    return symbols


def table(source, alphabet):
    flags = source.byte()
    s, rice, precision = flags & 7, flags >> 3 & 7, 14 if flags & 128 else 12
    first, last = (source.byte(), source.byte()) if flags & 64 else (0, alphabet - 1)
    bits, level, levels = Bits(source), 0, [0] * alphabet
    for symbol in range(first, last + 1):
        ones = 0
        while bits.get(1):
            ones += 1
        level += unzigzag(ones << rice | bits.get(rice))
        levels[symbol] = level
    weight = lambda L: SIXTEENTHS[(L - 1) % (1 << s) << (4 - s)] << (L - 1 >> s) if L else 0
    weights = [weight(L) for L in levels]
    total, room = sum(weights), (1 << precision) - sum(w > 0 for w in weights)
    frequencies = [1 + w * room // total if w else 0 for w in weights]
    frequencies[frequencies.index(max(frequencies))] += (1 << precision) - sum(frequencies)
    return precision, frequencies


def squash24(x):
    if x < 0:
        return (1 << 24) - squash24(-x)
    i, part = divmod(x, 64)
    return KNOTS[i] + (KNOTS[i + 1] - KNOTS[i]) * part // 64


STRETCH, _x = [], -3071
for _i in range(1 << 14):
    while _x < 3071 and squash24(_x) < (2 * _i + 1) * 512:
        _x += 1
    STRETCH.append(_x)


def adaptive(lane, model, count, bits, flags, rate):
    values = model.values
    sizes = [min(1 << 18, (1 << bits) * next_power(min(v, 4 * count, 1 << 18))) for v in values]
    counters = [{} for _ in values]
    n = len(values)
    first = {4: 22938, 6: 18728, 7: 17339}[n]
    weights = [[first] * n for _ in range(1 << bits)]

    def decide(slots, node):
        w, x, mix = weights[node], [], 0
        for i in range(n):
            estimate, seen = counters[i].get(slots[i] + node, (1 << 21, 0))
            x.append(STRETCH[estimate >> 8] * (512 * seen // (2 * seen + 1)) >> 8)
            mix += x[i] * w[i]
        p = min(65535, max(1, squash24(min(3071, max(-3071, mix >> 16))) + 128 >> 8))
        bit = lane.decode(16, lambda q: (1, 0, p) if q < p else (0, p, 65536 - p))
        error = 65536 * bit - p
        for i in range(n):
            w[i] = min(1 << 24, max(-(1 << 24), w[i] + (x[i] * error * rate + (1 << 17) >> 18)))
            estimate, seen = counters[i].get(slots[i] + node, (1 << 21, 0))
            target = (1 << 22) - 1 if bit else 0
            estimate += (target - estimate) * (131072 // (2 * seen + 3)) >> 16
            counters[i][slots[i] + node] = (estimate, min(1023, seen + 1))
        return bit

    symbols = []
    for i in range(count):
        slots = [slot(v, bits) % size for v, size in zip(model.contexts(i, symbols), sizes)]
        likely = model.likely(i)
        if flags & 2 and not decide(slots, 0):
            symbol = likely
        else:
            node = 1
            for _ in range(bits):
                node = node << 1 | decide(slots, node)
            symbol = node - (1 << bits)
        symbols.append(symbol)
        model.learn(i, symbol)
    return symbols


def next_power(n):
    return 1 << max(0, n - 1).bit_length()


def slot(value, bits):
    if value << bits < 1 << 18:
        return value << bits
    return (value * 0x9E3779B9 % (1 << 32) >> 8) >> bits << bits


class Activity:
    def __init__(self):
        self.sum = self.count = 0

    def add(self, distance):
        self.sum += distance
        self.count += 1

    def level(self, everything):
        a, n = everything.sum + 1, everything.count + 1
        difference = log8(self.sum * n + 2 * a) - log8((self.count + 2) * a)
        return min(15, max(0, 8 + (difference * 3 >> 3)))


def log8(x):
    top = x.bit_length() - 1
    return 8 * top + ((x >> top - 3 if top >= 3 else x << 3 - top) & 7)


def code_contexts(shape, zeros, run):
    row, kernel = product(shape[1:]) or 1, product(shape[2:]) or 1
    width = shape[-1] if len(shape) > 2 else 1

    class Codes:
        def __init__(self, start, length, bits, flags):
            self.start, self.bits, self.kernels = start, bits, flags & 1
            self.classes, self.shift = 1 << min(bits, 5), max(bits - 5, 0)
            self.all, self.row, self.columns = Activity(), Activity(), {}
            near = self.classes + 1
            if self.kernels:
                self.values = [kernel, near * kernel, near * kernel, 2 * near * kernel, near, near, 256]
            else:
                self.values = [1, length // row + 2, row, 256]

        def likely(self, i):
            group = (self.start + i) // run
            return zeros[group] if group < len(zeros) else 0

        def group(self, column):
            return self.columns.setdefault(column // kernel if self.kernels else column, Activity())

        def contexts(self, i, symbols):
            column = (self.start + i) % row
            if column == 0:
                self.row = Activity()
            levels = 16 * self.row.level(self.all) + self.group(column).level(self.all)
            if not self.kernels:
                return [0, (self.start % row + i) // row, column, levels]
            place = column % kernel

            def before(distance, known):
                return symbols[i - distance] >> self.shift if known and i >= distance else self.classes

            left, up = before(1, column >= 1), before(width, column >= width)
            return [
                place,
                left * kernel + place,
                up * kernel + place,
                (left + up) * kernel + place,
                before(row, True),
                before(kernel, column >= kernel),
                levels,
            ]

        def learn(self, i, symbol):
            distance = min(abs(symbol - self.likely(i)), 1 << (self.bits - 1))
            self.row.add(distance)
            self.group((self.start + i) % row).add(distance)
            self.all.add(distance)

    return Codes


def byte_contexts(ends, higher):
    class Bytes:
        values = [1, 256, 256, 256, 65536, 65536]

        def __init__(self, start, length, bits, flags):
            self.start = start

        def likely(self, i):
            return 0

        def contexts(self, i, symbols):
            at = self.start + i
            t = sum(end <= at for end in ends) % 256
            left = symbols[i - 1] if i else 0
            above = higher[-1][at] if higher else 0
            h = 1
            for plane in higher:
                h = (h * 0x2F0B4C47 + plane[at]) % (1 << 32)
            return [0, t, left, above, (h ^ h >> 16) % 65536, 256 * t + (above if higher else left)]

        def learn(self, i, symbol):
            pass

    return Bytes


# Sections --------------------------------------------------------------------------------------------------------


def float_bits(value):
    return struct.unpack("<I", struct.pack("<f", value))[0]


def order_of(bits):
    return bits ^ 0xFFFFFFFF if bits >> 31 else bits | 1 << 31


def codes(section, weight):
    source, k, groups = Input(section), weight["k"], weight["groups"]
    count = product(weight["shape"])
    if source.byte() == 0:
        book = source.words(groups * k)
    else:
        firsts = stream(source, groups, 64, code_contexts([groups], [], 1 << 62))
        gaps = stream(source, groups * (k - 1), 64, code_contexts([groups, k - 1], [], 1 << 62))
        bits, before, book = Bits(source), 0, []

        def value(cls):
            if cls < 2:
                return cls
            top = cls // 2
            return 1 << top | (cls & 1) << (top - 1) | bits.get(top - 1)

        for group in range(groups):
            before = at = (before + unzigzag(value(firsts[group]))) % (1 << 32)
            places = [at]
            for cls in gaps[group * (k - 1) : (group + 1) * (k - 1)]:
                at += value(cls)
                places.append(at)
            book += [place & 0x7FFFFFFF if place >> 31 else place ^ 0xFFFFFFFF for place in places]
    books = [book[g * k : (g + 1) * k] for g in range(groups)]
    orders = [sorted(range(k), key=lambda i: (order_of(b[i]), i)) for b in books]
    zeros = [min(range(k), key=lambda r: (b[o[r]] & 0x7FFFFFFF, r)) for b, o in zip(books, orders)]
    run = max(1, count // groups)
    ranks = stream(source, count, k, code_contexts(weight["shape"], zeros, run))
    assert source.at == len(section)
    found = bytes(orders[i // run][rank] for i, rank in enumerate(ranks))
    values = b"".join(struct.pack("<I", books[i // run][code]) for i, code in enumerate(found))
    return book, found, values


def join(dtype, planes):
    """Byte planes to little-endian elements."""
    if dtype != 1:
        return b"".join(bytes(reversed(element)) for element in zip(*planes))
    result = b""
    for exponent, high, *low in zip(*planes):
        word = (high >> 7) << 31 | exponent << 23 | (high & 127) << 16 | low[0] << 8 | low[1]
        result += struct.pack("<I", word)
    return result


def values(section, weights):
    source = Input(section)
    form, dtype = source.byte(), weights[0]["dtype"]
    stored = {0: dtype, 1: 3, 2: 12}[form]
    steps = [source.floats(2) for _ in weights] if form == 2 else []
    counts = [product(weight["shape"]) for weight in weights]
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    planes = []
    for _ in range(SIZES[stored]):
        planes.append(stream(source, sum(counts), 256, byte_contexts(ends, list(planes))))
    assert source.at == len(section)
    result = []
    for i, end in enumerate(ends):
        data = join(stored, [plane[end - counts[i] : end] for plane in planes])
        if form == 1:
            data = b"".join(struct.pack("<f", v) for (v,) in struct.iter_unpack("<e", data))
        if form == 2:
            first, step = steps[i]
            single = lambda v: struct.unpack("<f", struct.pack("<f", v))[0]
            data = b"".join(struct.pack("<f", first + single(step * code)) for code in data)
        result.append(data)
    return result


def main(path):
    data = pathlib.Path(path).read_bytes()
    source = Input(data)
    assert source.take(4) == b"\x89SLQ" and source.byte() == 1
    source.take(3)
    header = struct.unpack("<I", source.take(4))[0]
    assert zlib.crc32(data[: header - 4]) == struct.unpack("<I", data[header - 4 : header])[0]
    assert source.number() == len(data)
    sections, at = [], header
    for _ in range(source.number()):
        kind, length, checksum = source.byte(), source.number(), source.words(1)[0]
        sections.append((kind, data[at : at + length]))
        assert zlib.crc32(sections[-1][1]) == checksum
        at += length
    assert at == len(data) and source.at == header - 4
    network = Network(sections[0][1])
    print("\n".join(network.lines))
    shared = {}
    for weight in network.weights:
        index = weight["section"]
        line = f"weight {weight['name']!r} {TYPES[weight['dtype']]} {weight['shape']} rates"
        line += "".join(" %08x" % float_bits(rate) for rate in weight["rates"])
        if weight["form"] == "values":
            members = [w for w in network.weights if w["section"] == index]
            if index not in shared:
                shared[index] = values(sections[index][1], members)
            found = shared[index][members.index(weight)]
        else:
            book, indices, found = codes(sections[index][1], weight)
            if weight["form"] == "palette":
                packed = struct.pack("<%dI" % len(book), *book)
                line += f" palette {weight['k']}x{weight['groups']} {zlib.crc32(packed):08x} {zlib.crc32(indices):08x}"
        print(f"{line} values {zlib.crc32(found):08x}")


if __name__ == "__main__":
    main(sys.argv[1])
