"""Sample media for the demo, made by the standard library: sound, pictures, an archive, texts.

``ffmpeg`` adds a video clip where it is installed; nothing needs it.
"""

from __future__ import annotations

import math
import random
import shutil
import struct
import subprocess
import wave
import zipfile
import zlib
from array import array
from pathlib import Path

RATE = 44_100
NOTES = (261.63, 329.63, 392.00, 523.25, 392.00, 329.63)

README = """\
This directory is a torrent.

Nothing of it was downloaded when it appeared here. Each file is fetched, piece by piece, when a
program reads it, and every byte is checked against the torrent's hashes before it is handed over.
"""


def write_media(root: Path) -> Path:
    """Write the sample tree below `root`, about 50 MB; gives `root`."""
    root.mkdir(parents=True)
    (root / "README.txt").write_text(README)
    _write_sound(root / "music" / "Arpeggio in C.wav", minutes=4)
    for number in range(3):
        _write_picture(root / "pictures" / f"plasma {number + 1}.png", seed=number)
    (root / "Ünïcödé").mkdir()
    (root / "Ünïcödé" / "日本語のファイル.txt").write_text("おはよう\n" * 100)
    (root / "Ünïcödé" / "empty").touch()
    _write_archive(root / "archive.zip", root / "pictures")
    _write_video(root / "video" / "test pattern.mp4")
    return root


def _write_sound(path: Path, minutes: float) -> None:
    path.parent.mkdir(parents=True)
    notes = []
    for number, pitch in enumerate(NOTES):
        samples = array("h")
        for tick in range(RATE // 2):
            fade = math.exp(-4 * tick / RATE)
            left = math.sin(2 * math.pi * pitch * tick / RATE)
            right = math.sin(2 * math.pi * pitch * 1.003 * tick / RATE + number)
            samples.extend((int(20_000 * fade * left), int(20_000 * fade * right)))
        notes.append(samples.tobytes())
    dice = random.Random(1)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        for _ in range(int(minutes * 120)):
            # A little noise in front, so that no two pieces of the file are alike.
            note = dice.choice(notes)
            sound.writeframesraw(dice.randbytes(64) + note[64:])


def _write_picture(path: Path, seed: int, size: int = 512) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave_of = [math.sin((x + 40 * seed) / (17 + 9 * seed)) for x in range(2 * size)]
    rows = bytearray()
    for y in range(size):
        rows.append(0)  # PNG filter "none"
        for x in range(size):
            value = wave_of[x] + wave_of[y] + wave_of[x + y]
            rows += bytes((int(127 + 42 * value), (x * y) >> 10, int(127 - 42 * value)))
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    with path.open("wb") as picture:
        picture.write(b"\x89PNG\r\n\x1a\n")
        for kind, body in chunks:
            check = zlib.crc32(kind + body)
            picture.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check))


def _write_archive(path: Path, content: Path) -> None:
    dice = random.Random(2)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(content.iterdir()):
            archive.write(file, file.name)
        archive.writestr("noise.bin", dice.randbytes(4 << 20))


def _write_video(path: Path) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return
    path.parent.mkdir(parents=True)
    source = ["-f", "lavfi", "-i", "testsrc2=duration=10:size=640x360:rate=24"]
    form = ["-c:v", "mpeg4", "-q:v", "4", "-movflags", "+faststart"]
    try:
        subprocess.run(
            [ffmpeg, "-loglevel", "error", "-y", *source, *form, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        shutil.rmtree(path.parent)
