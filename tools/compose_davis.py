"""Two sequences of DAVIS composed into one with two objects, to see whether objects swallow each other.

    python tools/compose_davis.py --root DAVIS --out COMPOSED BEHIND+BEFORE [BEHIND+BEFORE ...]
    labelprop evaluate davis --root COMPOSED

Of each pair the second sequence's object is cut out along its mask and laid over the first sequence's frames, where it
was. Both masks are known: object 1 is what is left to be seen of the first sequence's, object 2 the second's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

_IMAGES, _MASKS = "JPEGImages/480p", "Annotations/480p"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("pairs", nargs="+", metavar="BEHIND+BEFORE", help="names of two sequences")
    parser.add_argument("--root", type=Path, required=True, help="DAVIS")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the composed sequences to")
    args = parser.parse_args(argv)
    for pair in args.pairs:
        names = pair.split("+")
        if len(names) != 2 or not all((args.root / _MASKS / name).is_dir() for name in names):
            print(f"{pair}: give two sequences that {args.root} has, as NAME+NAME.", file=sys.stderr)
            return 2
        print(f"{pair}: {compose(args.root, args.out, names[0], names[1])} frames")
    return 0


def compose(root: Path, out: Path, behind: str, before: str) -> int:
    """Writes one composed sequence, `BEHIND+BEFORE`; returns how many frames it has, as many as the shorter one."""
    images, masks = out / _IMAGES / f"{behind}+{before}", out / _MASKS / f"{behind}+{before}"
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    both = [sorted((root / _MASKS / name).glob("*.png")) for name in (behind, before)]
    pairs = list(zip(*both, strict=False))
    for first, second in pairs:
        picture, over = (_picture(root, mask) for mask in (first, second))
        back, front = (np.asarray(Image.open(mask).convert("L")) > 0 for mask in (first, second))
        height, width = (min(a, b) for a, b in zip(back.shape, front.shape, strict=True))
        at = (slice(height), slice(width))
        shown = np.where(front[at][..., None], over[at], picture[at])
        ids = np.where(front[at], 2, back[at].astype(np.uint8)).astype(np.uint8)
        Image.fromarray(shown).save(images / f"{first.stem}.jpg", quality=95)
        indexed = Image.fromarray(ids)
        indexed.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
        indexed.save(masks / f"{first.stem}.png")
    return len(pairs)


def _picture(root: Path, mask: Path) -> np.ndarray:
    return np.asarray(Image.open(root / _IMAGES / mask.parent.name / f"{mask.stem}.jpg").convert("RGB"))


if __name__ == "__main__":
    sys.exit(main())
