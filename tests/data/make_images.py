#!/usr/bin/env python3
"""Makes the pictures of images/ and, with Pillow, the pixels that they must decode and resize to.

    python3 -m venv venv && venv/bin/pip install pillow numpy && venv/bin/python make_images.py

images/manifest.txt has a line a picture: file, width, height, tolerance; its pixels are in file.rgb (RGB bytes).
images/resize.txt has a line a resized picture: result, source, how, width, height. Running it again gives the same
files, up to the versions of Pillow (the committed ones: 13.0.0) and zlib.
"""
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

OUT = Path(__file__).parent / "images"
rng = np.random.default_rng(20240229)
manifest = []


def put(name, data, rgb, tolerance=0):
    """One encoded picture and its expected pixels, a uint8 array [height, width, 3]."""
    rgb = np.ascontiguousarray(rgb, np.uint8)
    (OUT / name).write_bytes(data)
    (OUT / (name + ".rgb")).write_bytes(rgb.tobytes())
    manifest.append(f"{name} {rgb.shape[1]} {rgb.shape[0]} {tolerance}")


# ----------------------------------------------------------------------------------------------------------- PNG
# A writer of our own: Pillow cannot write most bit depths, interlacing or a chosen filter.

def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def paeth(a, b, c):
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def filter_rows(rows, bpp):
    """Bytes of the rows with the five filters in turn (PNG specification, section 9)."""
    out, before = bytearray(), bytes(len(rows[0])) if rows else b""
    for y, row in enumerate(rows):
        kind = y % 5
        out.append(kind)
        for i, x in enumerate(row):
            a = row[i - bpp] if i >= bpp else 0
            b, c = before[i], before[i - bpp] if i >= bpp else 0
            out.append((x - (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]) & 255)
        before = row
    return bytes(out)


def pack(samples, depth):
    """One row of samples [width, channels] as bytes."""
    flat = [int(v) for v in samples.reshape(-1)]
    if depth == 16:
        return struct.pack(f">{len(flat)}H", *flat)
    if depth == 8:
        return bytes(flat)
    bits = "".join(format(v, f"0{depth}b") for v in flat)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, depth, colour, interlace=False, before=b"", split=None):
    """samples [height, width, channels]; before: chunks in front of the picture data."""
    height, width, channels = samples.shape
    bpp = max(1, channels * depth // 8)
    passes = ADAM7 if interlace else [(0, 0, 1, 1)]
    raw = b""
    for x0, y0, dx, dy in passes:
        part = samples[y0::dy, x0::dx]
        if part.size:
            raw += filter_rows([pack(row, depth) for row in part], bpp)
    data = zlib.compress(raw, 9)
    pieces = [data] if split is None else [data[i:i + split] for i in range(0, len(data), split)]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlace))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before +
            b"".join(chunk(b"IDAT", piece) for piece in pieces) + chunk(b"IEND", b""))


def on_white(rgb, alpha):
    """Composited in exact arithmetic, rounded."""
    rgb, alpha = rgb.astype(np.int64), alpha.astype(np.int64)[..., None]
    return ((2 * (rgb * alpha + 255 * (255 - alpha)) + 255) // 510).astype(np.uint8)


def scale(samples, depth):
    return (samples >> 8 if depth == 16 else samples * (255 // (2 ** depth - 1))).astype(np.uint8)


def agrees_with_pillow(data, rgb, tolerance):
    """Pillow sees the same picture (its 16-bit grey and composited pixels may be rounded otherwise)."""
    image = Image.open(io.BytesIO(data))
    if image.mode in ("I", "I;16"):
        pixels = np.asarray(image).astype(np.int64)[..., None].repeat(3, 2) >> 8
    else:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        pixels = np.asarray(Image.alpha_composite(white, image).convert("RGB")).astype(np.int64)
    assert np.abs(pixels - rgb).max() <= tolerance, data[:60]


def make_pngs():
    w, h = 19, 13
    for interlace in (False, True):
        tail = "-adam7.png" if interlace else ".png"
        for depth in (1, 2, 4, 8, 16):
            grey = rng.integers(0, 2 ** depth, (h, w, 1))
            data = png(grey, depth, 0, interlace)
            rgb = scale(grey, depth).repeat(3, 2)
            agrees_with_pillow(data, rgb, 0)
            put(f"grey{depth}{tail}", data, rgb)

            key = int(grey[3, 4, 0])               # one grey is transparent
            if depth == 16:
                grey[5, 6, 0] = key ^ 1            # and one that differs from it in the low byte is not
            data = png(grey, depth, 0, interlace, chunk(b"tRNS", struct.pack(">H", key)))
            alpha = np.where(grey[..., 0] == key, 0, 255)
            put(f"grey{depth}-key{tail}", data, on_white(scale(grey, depth).repeat(3, 2), alpha))

            if depth <= 8:
                colours = rng.integers(0, 256, (2 ** depth, 3)).astype(np.uint8)
                palette = chunk(b"PLTE", colours.tobytes())
                index = rng.integers(0, 2 ** depth, (h, w, 1))
                data = png(index, depth, 3, interlace, palette)
                rgb = colours[index[..., 0]]
                agrees_with_pillow(data, rgb, 0)
                put(f"palette{depth}{tail}", data, rgb)
                some = rng.integers(0, 256, max(1, 2 ** depth // 2)).astype(np.uint8)   # the rest is opaque
                data = png(index, depth, 3, interlace, palette + chunk(b"tRNS", some.tobytes()))
                full = np.concatenate([some, np.full(2 ** depth - len(some), 255, np.uint8)])
                rgb = on_white(colours[index[..., 0]], full[index[..., 0]])
                agrees_with_pillow(data, rgb, 1)
                put(f"palette{depth}-alpha{tail}", data, rgb)
        for depth in (8, 16):
            top = 2 ** depth
            rgb = rng.integers(0, top, (h, w, 3))
            data = png(rgb, depth, 2, interlace)
            agrees_with_pillow(data, scale(rgb, depth), 0)
            put(f"rgb{depth}{tail}", data, scale(rgb, depth))
            key = rgb[2, 2]
            data = png(rgb, depth, 2, interlace, chunk(b"tRNS", struct.pack(">HHH", *(int(v) for v in key))))
            alpha = np.where((rgb == key).all(2), 0, 255)
            put(f"rgb{depth}-key{tail}", data, on_white(scale(rgb, depth), alpha))
            for colour, channels, name in ((4, 2, "grey-alpha"), (6, 4, "rgba")):
                x = rng.integers(0, top, (h, w, channels))
                x[0, 0, -1], x[0, 1, -1] = 0, top - 1
                data = png(x, depth, colour, interlace)
                x8 = scale(x, depth)
                rgb = on_white(x8[..., :-1].repeat(3, 2) if channels == 2 else x8[..., :-1], x8[..., -1])
                agrees_with_pillow(data, rgb, 1)
                put(f"{name}{depth}{tail}", data, rgb)
    tiny = rng.integers(0, 256, (1, 1, 3))
    put("one-pixel-adam7.png", png(tiny, 8, 2, True), tiny)
    many = rng.integers(0, 256, (40, 33, 3))
    gamma = chunk(b"gAMA", struct.pack(">I", 220000)) + chunk(b"tEXt", b"Comment\0ignored")
    put("gamma-in-pieces.png", png(many, 8, 2, False, gamma, split=97), many)      # gamma is ignored


# ---------------------------------------------------------------------------------------------------------- JPEG

def picture(width, height, seed=5):
    """Something smooth with edges, so that JPEG has work and chroma matters."""
    y, x = np.mgrid[0:height, 0:width]
    r = 128 + 100 * np.sin(x / 5 + seed) * np.cos(y / 7)
    g = 255 * ((x // 6 + y // 6) % 2)
    b = 255 * (y / max(1, height - 1))
    noise = np.random.default_rng(seed).integers(-12, 13, (height, width, 3))
    return np.clip(np.stack([r, g, b], 2) + noise, 0, 255).astype(np.uint8)


def jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def exif(orientation, endian):
    """An EXIF segment whose first directory holds three entries, the orientation in the middle."""
    e = "<" if endian == "II" else ">"
    tiff = endian.encode() + struct.pack(e + "HIH", 42, 8, 3)
    tiff += struct.pack(e + "HHIHH", 0x0100, 3, 1, 7, 0)
    tiff += struct.pack(e + "HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff += struct.pack(e + "HHII", 0x011A, 5, 1, 50) + struct.pack(e + "III", 0, 72, 1)
    return b"Exif\0\0" + tiff


def make_jpegs():
    rgb = Image.fromarray(picture(45, 37))
    # the three libraries' rounding of chroma may differ by a step or two between versions and processors
    kinds = {"444": dict(subsampling=0), "422": dict(subsampling=1), "420": dict(subsampling=2),
             "420-progressive": dict(subsampling=2, progressive=True), "444-progressive": dict(subsampling=0, progressive=True),
             "420-restart": dict(subsampling=2, restart_marker_blocks=2), "420-optimised": dict(subsampling=2, optimize=True)}
    for name, options in kinds.items():
        data = jpeg(rgb, **options)
        put(f"rgb-{name}.jpg", data, by_pillow(data), 2)
    for name, options in (("", {}), ("-progressive", dict(progressive=True))):
        data = jpeg(rgb.convert("L"), **options)
        put(f"grey{name}.jpg", data, by_pillow(data), 1)
    data = jpeg(rgb, keep_rgb=True, subsampling=0)
    put("stored-as-rgb.jpg", data, by_pillow(data), 1)

    inks = np.concatenate([picture(45, 37, 9), picture(45, 37, 11)[..., :1]], 2)
    cmyk = jpeg(Image.fromarray(inks, "CMYK"))
    put("cmyk-adobe.jpg", cmyk, by_pillow(cmyk), 2)
    at = cmyk.index(b"\xff\xee\x00\x0eAdobe")
    plain = cmyk[:at] + cmyk[at + 16:]
    put("cmyk-plain.jpg", plain, by_pillow(plain), 2)
    ycck = bytearray(cmyk)
    ycck[at + 15] = 2                       # Adobe's transform byte: the first three are YCbCr
    put("ycck.jpg", bytes(ycck), by_pillow(bytes(ycck)), 3)

    small = Image.fromarray(picture(21, 12, 3))
    for orientation in range(1, 9):
        data = jpeg(small, subsampling=0, exif=exif(orientation, "MM" if orientation % 2 else "II"))
        expected = by_pillow(data)
        assert expected.shape == ((12, 21, 3) if orientation < 5 else (21, 12, 3))
        put(f"orientation{orientation}.jpg", data, expected, 1)
    large = Image.fromarray(picture(200, 150, 2))
    data = jpeg(large, subsampling=2)
    put("large-420.jpg", data, by_pillow(data), 2)


# -------------------------------------------------------------------------------------------------------- resizing

def make_resized():
    lines = []

    def add(name, source, how, image):
        (OUT / name).write_bytes(image.tobytes())
        lines.append(f"{name} {source} {how} {image.width} {image.height}")

    noise = rng.integers(0, 256, (47, 61, 3)).astype(np.uint8)            # the hardest to resize equally
    put("noise.png", png(noise, 8, 2), noise)
    source = Image.fromarray(noise)
    for width, height in ((61, 47), (32, 32), (7, 5), (61, 20), (20, 47), (100, 80), (1, 1), (150, 3), (90, 47), (60, 46)):
        add(f"noise-{width}x{height}.rgb", "noise.png", "resize", source.resize((width, height), Image.BILINEAR))

    def crop(image, resize, size):
        """torchvision's Resize(resize) and CenterCrop(size) on a PIL image."""
        w, h = image.size
        short, long = min(w, h), max(w, h)
        other = int(resize * long / short)
        w, h = (resize, other) if w <= h else (other, resize)
        image = image.resize((w, h), Image.BILINEAR)
        left, top = int(round((w - size) / 2.0)), int(round((h - size) / 2.0))
        return image.crop((left, top, left + size, top + size))

    tall = noise.transpose(1, 0, 2).copy()
    put("noise-tall.png", png(tall, 8, 2), tall)
    for name, image in (("noise", source), ("noise-tall", Image.fromarray(tall))):
        for resize, size in ((32, 32), (40, 32), (41, 32), (75, 64), (47, 47), (51, 30)):
            add(f"{name}-crop-{resize}-{size}.rgb", f"{name}.png", f"crop{resize}", crop(image, resize, size))
    (OUT / "resize.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    make_pngs()
    make_jpegs()
    make_resized()
    (OUT / "manifest.txt").write_text("\n".join(manifest) + "\n")
    print(f"{len(manifest)} pictures; Pillow {Image.__version__}", file=sys.stderr)
