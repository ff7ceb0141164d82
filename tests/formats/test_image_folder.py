"""What a folder holds beside images is told, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobilesam.formats.image_folder import (
    NAMELESS_REASON,
    PICTURE_REASON,
    RAW_REASON,
    VIDEO_REASON,
    SkippedFile,
    find_images,
    look_through,
    tell_skipped,
)

REASONS = {
    "b.CR2": RAW_REASON,
    "c.nef": RAW_REASON,
    "d.ARW": RAW_REASON,
    "e.dng": RAW_REASON,
    "below/f.Raf": RAW_REASON,
    "g.mp4": VIDEO_REASON,
    "h.psd": PICTURE_REASON,
    "i.svg": PICTURE_REASON,
    "j.txt": NAMELESS_REASON,
    "k": NAMELESS_REASON,
    "l.jfif": NAMELESS_REASON,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    for name in ("a.jpg", "below/z.TIFF", ".hidden.cr2", *REASONS):
        (tmp_path / name).touch()
    return tmp_path


def test_skipped_files_have_their_reason(folder: Path) -> None:
    contents = look_through(folder)
    assert [image.path.name for image in contents.images] == ["a.jpg", "z.TIFF"]
    assert contents.images == find_images(folder)
    told = {file.path.relative_to(folder).as_posix(): file.reason for file in contents.skipped}
    assert told == REASONS
    assert [file.path for file in contents.skipped] == sorted(folder / name for name in REASONS)


def test_only_what_is_walked_is_told(folder: Path) -> None:
    names = {file.path.name for file in look_through(folder, below=False).skipped}
    assert names == {name for name in REASONS if "/" not in name}
    names = {file.path.name for file in look_through(folder, leave_out=folder / "below").skipped}
    assert "f.Raf" not in names


def test_one_line_for_each_reason(folder: Path) -> None:
    assert tell_skipped(look_through(folder).skipped) == [
        f"5 files skipped (b.CR2, f.Raf, c.nef, ...): each is {RAW_REASON}",
        f"1 file skipped (g.mp4): it is {VIDEO_REASON}",
        f"2 files skipped (h.psd, i.svg): each is {PICTURE_REASON}",
        f"3 files skipped (j.txt, k, l.jfif): each is {NAMELESS_REASON}",
    ]


def test_lines_stay_short() -> None:
    skipped = [SkippedFile(Path(f"{'x' * 200}\n{i}.cr2"), RAW_REASON) for i in range(5000)]
    (line,) = tell_skipped(skipped)
    assert line.startswith("5,000 files skipped (")
    assert line.isprintable()
    assert len(line) < 250
