"""Small image files with many forms of orientation metadata, or in CMYK, and how Pillow reads them, for
crates/bpo-distort/tests/load_pillow.rs.

    python tools/golden/load.py crates/bpo-distort/tests/data/load.json

Writes for each file its bytes in base64, and width, height and the SHA-256 of the pixels, row by row, after
exif_transpose and convert("RGB"), as transformers' load_image does.

Needs pillow (tools/requirements.txt).
"""

import argparse
import base64
import hashlib
import io
import json
import struct
import warnings
import zlib
from pathlib import Path

from PIL import Image, ImageOps

warnings.simplefilter("ignore")  # Pillow warns of each odd entry that is meant here

BYTE, ASCII, SHORT, LONG, RATIONAL, SBYTE, UNDEFINED, SSHORT, SLONG, SRATIONAL, FLOAT, DOUBLE = range(1, 13)
ORIENTATION = 0x0112
FORMS = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", SBYTE: "b", UNDEFINED: "B", SSHORT: "h", SLONG: "i", FLOAT: "f", DOUBLE: "d"}


def entries(order, fields, data_at):
    """An image file directory with its data behind it: fields are (tag, type, values)."""
    table, data = struct.pack(order + "H", len(fields)), b""
    data_at += 2 + 12 * len(fields) + 4
    for tag, kind, values in fields:
        if kind in (RATIONAL, SRATIONAL):
            packed = b"".join(struct.pack(order + ("II" if kind == RATIONAL else "ii"), *value) for value in values)
        else:
            packed = struct.pack(order + FORMS[kind] * len(values), *values)
        if len(packed) > 4:
            table += struct.pack(order + "HHII", tag, kind, len(values), data_at + len(data))
            data += packed
        else:
            table += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    return table + struct.pack(order + "I", 0) + data


def exif(kind, values, order="<", before=()):
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + entries(order, [*before, (ORIENTATION, kind, values)], 8)


def picture(width=7, height=5):
    image = Image.new("RGB", (width, height))
    image.putdata([(x * 36, y * 51, (x * 91 + y * 37) % 256) for y in range(height) for x in range(width)])
    return image


def encoded(image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


def app1(content):
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


def jpeg(*segments):
    data = encoded(picture(16, 8), format="JPEG", quality=75)
    return data[:2] + b"".join(map(app1, segments)) + data[2:]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks, late=False):
    data = encoded(picture(), format="PNG")
    at = len(data) - 12 if late else 33
    return data[:at] + b"".join(chunks) + data[at:]


def webp(exif_block=b"", xmp_block=b""):
    return encoded(picture(), format="WEBP", lossless=True, exif=exif_block, xmp=xmp_block)


def xmp(value, element=False):
    inner = f"<tiff:Orientation>{value}</tiff:Orientation>" if element else ""
    attribute = "" if element else f' tiff:Orientation="{value}"'
    return (f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description{attribute}>{inner}'
            "</rdf:Description></rdf:RDF></x:xmpmeta>").encode()


def tiff(order, samples, width, height, channels, bits, photometric, more=(), extra=0):
    """An uncompressed TIFF file of one strip."""
    fields = [
        (256, SHORT, [width]), (257, SHORT, [height]), (258, SHORT, [bits] * channels), (259, SHORT, [1]),
        (262, SHORT, [photometric]), (273, LONG, [8]), (277, SHORT, [channels]), (278, SHORT, [height]),
        (279, LONG, [len(samples)]), *more,
    ]
    if extra:
        fields.append((338, SHORT, [0] * extra))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(samples))
    return head + samples + entries(order, sorted(fields), 8 + len(samples))


def rgb_tiff(order="<", *more):
    return tiff(order, picture().tobytes(), 7, 5, 3, 8, 2, more)


def big_tiff(value):
    """BigTIFF: 64-bit offsets."""
    samples = picture().tobytes()
    fields = [(256, 3, 7), (257, 3, 5), (258, 3, None), (259, 3, 1), (262, 3, 2), (273, 4, 16), (ORIENTATION, 4, value),
              (277, 3, 3), (278, 3, 5), (279, 4, len(samples))]
    table = struct.pack("<Q", len(fields))
    for tag, kind, number in fields:
        packed = struct.pack("<HHH", 8, 8, 8) if number is None else struct.pack("<H" if kind == 3 else "<I", number)
        table += struct.pack("<HHQ", tag, kind, 3 if number is None else 1) + packed.ljust(8, b"\0")
    return b"II+\0" + struct.pack("<HHQ", 8, 0, 16 + len(samples)) + samples + table + struct.pack("<Q", 0)


def cmyk_levels():
    """Cyan, magenta, yellow and black that cover the rounding of the conversion."""
    return bytes(
        value
        for black in (0, 1, 2, 50, 100, 127, 128, 200, 254, 255)
        for at in range(12)
        for value in ((at * 23) % 256, (at * 71 + black) % 256, 255 - at * 19, black)
    )


def cases():
    kinds = {
        "short": (SHORT, [6]), "long": (LONG, [6]), "byte": (BYTE, [6]), "sbyte": (SBYTE, [6]), "sshort": (SSHORT, [6]),
        "slong": (SLONG, [6]), "float": (FLOAT, [6.0]), "double": (DOUBLE, [6.0]), "rational": (RATIONAL, [(12, 2)]),
        "srational": (SRATIONAL, [(-6, -1)]), "ascii": (ASCII, b"6\0"), "undefined": (UNDEFINED, b"\6"),
        "two-shorts": (SHORT, [6, 3]), "three-shorts": (SHORT, [8, 3, 1]), "two-longs": (LONG, [3, 6]), "fraction": (RATIONAL, [(13, 2)]),
        "by-zero": (RATIONAL, [(6, 0)]), "long-65542": (LONG, [65542]), "nine": (SHORT, [9]), "zero": (LONG, [0]),
        "none": (SHORT, []),
    }
    for name, (kind, values) in kinds.items():
        yield f"png-{name}", png(chunk(b"eXIf", exif(kind, values)))
        yield f"png-{name}-big-endian", png(chunk(b"eXIf", exif(kind, values, ">")))
    for value in range(1, 9):
        yield f"png-{value}", png(chunk(b"eXIf", exif(LONG, [value])))
        yield f"jpeg-{value}", jpeg(b"Exif\0\0" + exif(LONG, [value], "<>"[value % 2]))
    for name in ("short", "long", "byte", "rational", "two-longs"):
        kind, values = kinds[name]
        yield f"webp-{name}", webp(exif(kind, values))
        for order in "<>":
            yield f"tiff-{name}-{'big' if order == '>' else 'little'}-endian", rgb_tiff(order, (ORIENTATION, kind, values))
    yield "jpeg-byte", jpeg(b"Exif\0\0" + exif(BYTE, [6]))
    yield "jpeg-two-blocks", jpeg(b"Exif\0\0" + exif(LONG, [6])[:20], b"Exif\0\0" + exif(LONG, [6])[20:])
    yield "jpeg-second-entry-counts-not", jpeg(b"Exif\0\0" + exif(SHORT, [3], before=[(ORIENTATION, LONG, [6])]))
    yield "jpeg-unknown-type-first", jpeg(b"Exif\0\0" + exif(LONG, [6]).replace(b"\1\0\x12\1\4\0", b"\1\0\x12\1\x63\0"))
    yield "jpeg-other-entries-first", jpeg(b"Exif\0\0" + exif(LONG, [8], before=[(0x010F, ASCII, b"A long name\0")]))
    yield "jpeg-broken-directory", jpeg(b"Exif\0\0" + exif(LONG, [6]).replace(b"\x08\0\0\0\1\0", b"\x08\0\0\0\x09\0"))
    yield "png-late-exif", png(chunk(b"eXIf", exif(LONG, [6])), late=True)
    yield "png-exif-twice-marked", png(chunk(b"eXIf", b"Exif\0\0" + exif(LONG, [6])))
    raw = ("\nexif\n%8d\n%s\n" % (len(b"Exif\0\0" + exif(LONG, [6])), (b"Exif\0\0" + exif(LONG, [6])).hex())).encode()
    yield "png-raw-profile", png(chunk(b"tEXt", b"Raw profile type exif\0" + raw))
    yield "png-raw-profile-compressed", png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw)))
    adobe = b"http://ns.adobe.com/xap/1.0/\0"
    itxt = b"XML:com.adobe.xmp\0\0\0\0\0"
    for element in (False, True):
        how = "element" if element else "attribute"
        yield f"jpeg-xmp-{how}", jpeg(adobe + xmp(6, element))
        yield f"png-xmp-{how}", png(chunk(b"iTXt", itxt + xmp(6, element)))
        yield f"webp-xmp-{how}", webp(xmp_block=xmp(6, element))
    yield "png-xmp-compressed", png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(8))))
    yield "jpeg-xmp-beside-exif", jpeg(b"Exif\0\0" + exif(LONG, [3]), adobe + xmp(6))
    yield "jpeg-xmp-beside-byte", jpeg(b"Exif\0\0" + exif(BYTE, [3]), adobe + xmp(6))
    yield "tiff-xmp", rgb_tiff("<", (700, BYTE, xmp(6)))
    yield "bigtiff-long", big_tiff(6)

    levels = cmyk_levels()
    width, height = 12, 10
    for order in "<>":
        name = "big" if order == ">" else "little"
        yield f"tiff-cmyk-{name}-endian", tiff(order, levels, width, height, 4, 8, 5, [(332, SHORT, [1])])
        wide = struct.pack(order + "H" * len(levels), *(level * 256 + (level * 77) % 256 for level in levels))
        yield f"tiff-cmyk16-{name}-endian", tiff(order, wide, width, height, 4, 16, 5)
    yield "tiff-cmyk-turned", tiff("<", levels, width, height, 4, 8, 5, [(ORIENTATION, LONG, [6])])
    image = Image.frombytes("CMYK", (width, height), levels)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield f"tiff-cmyk-{compression}", encoded(image, format="TIFF", compression=compression)
    stored = encoded(image.resize((24, 16)), format="JPEG", quality=80)
    at = stored.index(b"\xff\xeeMAdobe".replace(b"M", b"\0\x0e"))
    yield "jpeg-cmyk", stored
    yield "jpeg-ycck", stored[: at + 15] + b"\2" + stored[at + 16 :]
    yield "jpeg-cmyk-without-adobe", stored[:at] + stored[at + 16 :]


def levels(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    return {"width": image.width, "height": image.height, "sha256": hashlib.sha256(image.tobytes()).hexdigest()}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", type=Path)
    args = ap.parse_args()
    found = {name: {"file": base64.b64encode(data).decode(), **levels(data)} for name, data in cases()}
    args.out.write_text(json.dumps(found, indent=0) + "\n")


if __name__ == "__main__":
    main()
