"""Real media, made by ffmpeg in seconds: half a minute is encoded, and then repeated by copying.

The containers are those that a library has, each with its index where that kind of file has it, so
that every way of probing occurs: moov atom behind and in front, Matroska with subtitles and a
cover, transport stream, MP3 with tags, FLAC.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

MINUTES = 10
_PART = 30

SUBTITLES = "\n".join(
    f"{number + 1}\n00:{number // 6:02}:{number % 6 * 10:02},000 --> "
    f"00:{number // 6:02}:{number % 6 * 10 + 3:02},000\nLine {number + 1}\n"
    for number in range(MINUTES * 6)
)


def _ffmpeg(*arguments: object) -> None:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def write_library(root: Path) -> list[Path]:
    """Write the library below `root`, one directory for each title; gives the directories."""
    work = root / "parts"
    work.mkdir(parents=True)
    part, sound, subtitles = work / "part.mp4", work / "sound.wav", work / "words.srt"
    subtitles.write_text(SUBTITLES)
    rate = ("-b:v", "900k", "-minrate", "900k", "-maxrate", "900k", "-bufsize", "900k")
    _ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"),
        *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", _PART),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", 50, *rate),
        *("-x264-params", "nal-hrd=cbr", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "96k"),
        part,
    )
    _ffmpeg("-f", "lavfi", "-i", "anoisesrc=d=90:a=0.2", "-ac", 2, sound)
    repeated = ("-stream_loop", MINUTES * 60 // _PART - 1, "-i", part)
    copied = ("-c", "copy", "-t", MINUTES * 60)
    titles = ("Index Behind", "Index In Front", "Matroska", "Broadcast", "Album")
    behind, front, matroska, broadcast, album = (root / title for title in titles)
    for title in (behind, front, matroska, broadcast, album):
        title.mkdir()
    _ffmpeg(*repeated, *copied, behind / "Index Behind (2019).mp4")
    (behind / "Index Behind (2019).en.srt").write_text(SUBTITLES)
    _ffmpeg(*repeated, *copied, "-movflags", "+faststart", front / "Index In Front (2020).mp4")
    _ffmpeg(
        *repeated,
        *("-i", subtitles, "-map", "0:v", "-map", "0:a", "-map", "1:s"),
        *("-c:v", "copy", "-c:a", "copy", "-c:s", "srt", "-t", MINUTES * 60),
        matroska / "Matroska (2021).mkv",
    )
    _ffmpeg(*repeated, *copied, "-f", "mpegts", broadcast / "Broadcast (2022).ts")
    tags = ("-metadata", "artist=Nobody", "-metadata", "album=Noise")
    for number in (1, 2):
        title = ("-metadata", f"title=Track {number}", "-metadata", f"track={number}")
        _ffmpeg("-i", sound, *tags, *title, "-b:a", "192k", album / f"{number:02} Track.mp3")
        _ffmpeg("-i", sound, *tags, *title, album / f"{number:02} Track.flac")
    return [behind, front, matroska, broadcast, album]
