"""One image: what a row holds → its bytes → 8-bit RGB, upright."""

import hashlib
import os
import threading
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image, ImageOps

DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
"""Modes of Pillow with more than 8 bits a channel."""

_DEPTHS = (255, 4095, 65535)  # of 8, 12 and 16 bits
_LARGE = 50_000_000  # pixels from which on images are decoded one at a time, as their memory adds up
_one_at_a_time = threading.Lock()


def allow_pixels() -> None:
    """Let images have as many pixels as ``INFODIST_MOST_PIXELS`` says; else Pillow's own bound holds, 179 million."""
    if most := os.environ.get("INFODIST_MOST_PIXELS"):
        Image.MAX_IMAGE_PIXELS = int(most) // 2 + 1  # from there on it warns, from the double on it refuses


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image as 8-bit RGB, upright.

    | stored as | becomes |
    |---|---|
    | EXIF orientation, in any mode | turned upright first |
    | RGB | unchanged |
    | grey (L), 1 bit | the grey level in all three channels; a set bit is 255 |
    | palette (P) | the palette's colours |
    | alpha or a transparent colour (RGBA, LA, PA, P, L, RGB, 1 bit) | composited on white |
    | CMYK, YCbCr, LAB, HSV | converted by Pillow |
    | 16-bit grey (I;16…), 32-bit integers (I) | as its largest value tells that it was made of 8, 12 or 16 bits: \
unchanged, or times 255 / 4095, or divided by 257; rounded and clipped to 0…255 |
    | floats (F) | times 255 if all lie within 0…1, else unchanged; rounded and clipped to 0…255 |

    16-bit colour reaches Pillow as 8 bits already. Of an animation the frame it stands at is taken.
    """
    if image.getexif().get(0x0112, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in DEEP:
        image = _eight_bit(image)
    if image.mode == "La":  # the one mode that only converts to its twin
        image = image.convert("LA")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image).astype(np.float64))  # [H, W]
    if image.mode == "F":
        white = 1 if values.min() >= 0 and values.max() <= 1 else 255
    else:
        white = next((depth for depth in _DEPTHS if values.max() <= depth), _DEPTHS[-1])
    return Image.fromarray((values * (255 / white)).round().clip(0, 255).astype(np.uint8))


def encode(value: Any) -> bytes:
    """Return the bytes of an image file; decoded images become plain pixels (PPM), which no codec version changes."""
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else _file_bytes(value.get("path"))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Path):  # of a list; what a data set says is a path is not followed
        return value.expanduser().read_bytes()
    if value is None:
        raise ValueError("it holds no image")
    file = BytesIO()
    decode(value).save(file, "PPM")
    return file.getvalue()


def _file_bytes(path: str | None) -> bytes | None:
    if path is None:
        return None
    import fsspec

    with fsspec.open(path, "rb") as file:
        return cast(bytes, file.read())


def decode(value: Any, mode: str | None = None) -> Image.Image:
    """Return what a row holds as 8-bit RGB.

    Args:
        value: A picture, an array, a tensor, a file or its bytes.
        mode: Of Pillow, that a data set wants its images in.

    Raises:
        ValueError: If it has more pixels than are allowed.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.", category=UserWarning)  # unreadable EXIF and the like
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        allow_pixels()
        try:
            image = _as_picture(value)
        except Image.DecompressionBombError as error:
            raise ValueError(f"{error}; make it smaller, or set INFODIST_MOST_PIXELS to more than it has") from error
        if image.width * image.height < _LARGE:
            return _loaded(image, mode)
        with _one_at_a_time:
            return _loaded(image, mode)


def _loaded(image: Image.Image, mode: str | None) -> Image.Image:
    image.load()
    return to_rgb(image if mode is None or image.mode == mode else ImageOps.exif_transpose(image).convert(mode))


def _as_picture(value: Any) -> Image.Image:
    """Return what a row holds as a picture that Pillow has opened, or made.

    Raises:
        TypeError: If it is nothing of the kind.
    """
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, np.ndarray):
        return Image.fromarray(value)
    if isinstance(value, bytes | bytearray | memoryview | Path | dict) or value is None:
        return Image.open(BytesIO(encode(value)))
    if hasattr(value, "detach"):
        return _of_tensor(value.detach().cpu())
    raise TypeError(f"it is a {type(value).__name__}; pass pictures, arrays [H, W, 3], files or their bytes")


def _of_tensor(pixels: Any) -> Image.Image:
    """Return a tensor ``[C, H, W]`` or ``[H, W]`` as a picture: bytes as they are, floats from 0 to 1.

    Raises:
        ValueError: If it holds other numbers: what was normalised for one model is no picture for another.
    """
    array = pixels.numpy()
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating) or array.min() < 0 or array.max() > 1:
            why = "those of a picture are bytes, or floats from 0 to 1; pass it as it was before it was normalised"
            raise ValueError(f"its values are {array.dtype} from {array.min():g} to {array.max():g}: {why}")
        array = np.rint(array * 255).astype(np.uint8)
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        array = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    return Image.fromarray(array)


def digest(value: Any, mode: str | None = None) -> bytes:
    """Return the sha256 of an image's bytes, and of how they are read where that is not as a file of 8 bits is.

    Args:
        value: As in `decode`.
        mode: Likewise.
    """
    content = encode(value)
    how = f"mode {mode}".encode() if mode else b"8, 12 or 16 bits" if _is_deep(content) else b""
    return hashlib.sha256(content + how).digest()


def _is_deep(content: bytes) -> bool:
    """Tell by its head whether a file holds integers of more than 8 bits."""
    if content[:2] == b"\xff\xd8" or content[:4] in (b"GIF8", b"RIFF"):
        return False  # JPEG, GIF, WebP: the usual ones, none of which can
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Image.open(BytesIO(content)).mode in DEEP[:-1]  # floats are read as ever
        except Exception:  # decoders fail in many ways; it is told when the image is read
            return False
