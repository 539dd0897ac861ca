"""Writes the LMDB databases that crates/data/tests/lmdb reads: pip install lmdb numpy opencv-python-headless

python make-lmdb-fixture.py crates/data/tests/lmdb

`raw`: 40 colour images of 4 x 5, blue first, pixel (c, y, x) of image i is (i + 50 c + 10 y + x) % 256, label i % 7.
`encoded`: 3 PNG files of sizes 2 x 3, 4 x 4 and 5 x 2, all pixels (red, green, blue) = (200, 100, i), label i.
The databases are made by another program, with Caffe's keys and field numbers; the messages are put together here by hand.
"""
import pathlib, shutil, sys
import cv2, lmdb, numpy


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def datum(c, h, w, data, label, encoded):
    text = b"".join(varint(f << 3) + varint(v) for f, v in ((1, c), (2, h), (3, w)))
    text += varint(4 << 3 | 2) + varint(len(data)) + data
    text += varint(5 << 3) + varint(label)
    return text + (varint(7 << 3) + varint(1) if encoded else b"")


def write(folder, values):
    shutil.rmtree(folder, ignore_errors=True)
    env = lmdb.open(str(folder), map_size=1 << 20)
    with env.begin(write=True) as txn:
        for i, value in enumerate(values):
            txn.put(f"{i:08d}".encode(), value)
    env.close()
    (folder / "lock.mdb").unlink()


top = pathlib.Path(sys.argv[1])
y, x = numpy.mgrid[:4, :5]
raw = []
for i in range(40):
    planes = numpy.stack([(i + 50 * c + 10 * y + x) % 256 for c in range(3)]).astype(numpy.uint8)
    raw.append(datum(3, 4, 5, planes.tobytes(), i % 7, False))
write(top / "raw", raw)
encoded = []
for i, (h, w) in enumerate([(2, 3), (4, 4), (5, 2)]):
    image = numpy.empty((h, w, 3), numpy.uint8)
    image[:] = (i, 100, 200)
    encoded.append(datum(3, h, w, cv2.imencode(".png", image)[1].tobytes(), i, True))
write(top / "encoded", encoded)
