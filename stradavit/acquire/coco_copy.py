"""A data set in the layout of SARDet-100K on this disk: COCO annotations and their pictures.

`Annotations/{train,val,test}.json` beside `JPEGImages/`, whose pictures lie in a folder for each
split, or all together.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from stradavit.acquire.coco import CocoFile, read_coco
from stradavit.errors import DataError
from stradavit.settings.detection import SPLITS, Split

ANNOTATIONS = "Annotations"
PICTURES = "JPEGImages"
MAX_DEPTH = 3


@dataclass(frozen=True)
class CocoCopy:
    """Where a copy keeps its files, and what they say.

    Parameters
    ----------
    files : annotations of each split
    folders : folder the file names of each split are relative to
    """

    root: Path
    files: Mapping[Split, CocoFile]
    folders: Mapping[Split, Path]

    @property
    def categories(self) -> dict[str, int]:
        """Id of each class in the first of the splits."""
        return next(iter(self.files.values())).categories

    def n_images(self, split: Split) -> int:
        """Pictures of a split."""
        return len(self.files[split].images)

    def boxes_of_class(self, split: Split) -> Counter[str]:
        """Boxes of a split by class."""
        return Counter(box.label for image in self.files[split].images for box in image.boxes)


def find_copy(folder: Path, splits: Sequence[Split] = SPLITS) -> CocoCopy:
    """Recognise a copy in `folder` or below it, and look for every picture it names.

    Raises
    ------
    DataError
        If there is no copy or more than one, or pictures are missing; if annotations are faulty,
        one error lists the faults of all splits.
    """
    root = _find_root(Path(folder).absolute())
    paths = {split: root / ANNOTATIONS / f"{split}.json" for split in splits}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise DataError(
            f"{root / ANNOTATIONS}: has no {', '.join(missing)}; expected one file for each split. "
            "The test split of SARDet-100K was published later than the others: get the data set "
            "again, or name the splits there are."
        )
    files, faults = {}, []
    for split, path in paths.items():
        try:
            files[split] = read_coco(path)
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    first = next(iter(files.values()))
    for file in files.values():
        if file.categories.keys() != first.categories.keys():
            raise DataError(
                f"{file.path}: its categories are {sorted(file.categories)}; those of "
                f"{first.path.name} are {sorted(first.categories)}. The files are of different "
                "versions: get the data set again."
            )
    pictures = root / PICTURES
    there = {path.relative_to(pictures).as_posix() for path in pictures.rglob("*.*")}
    folders = {split: _folder_of(file, there, pictures, split) for split, file in files.items()}
    return CocoCopy(root, files, folders)


def _find_root(folder: Path) -> Path:
    roots = [
        path.parent
        for depth in range(MAX_DEPTH)
        for path in sorted(folder.glob("*/" * depth + ANNOTATIONS))
        if (path.parent / PICTURES).is_dir()
    ]
    if len(roots) != 1:
        raise DataError(
            f"{folder}: expected one folder with {ANNOTATIONS}/ and {PICTURES}/ in it or up to "
            f"{MAX_DEPTH - 1} folders below; found {', '.join(map(str, roots)) or 'none'}. Name "
            "the folder that holds both."
        )
    return roots[0]


def _folder_of(file: CocoFile, there: Set[str], pictures: Path, split: str) -> Path:
    """The folder a split's file names are relative to, in which all of them must be."""
    names = [image.name for image in file.images]
    # The list of files leaves out what lies in linked folders: a second look at what it lacks.
    missing = {
        folder: [
            name for name in names if before + name not in there and not (folder / name).is_file()
        ]
        for folder, before in ((pictures, ""), (pictures / split, f"{split}/"))
    }
    folder = min(missing, key=lambda folder: len(missing[folder]))
    if lacking := missing[folder]:
        raise DataError(
            f"{folder}: lacks {len(lacking):,} of the {len(names):,} images of {split}.json, such "
            f"as {lacking[0]}. Get the data set again, or complete the copy."
        )
    return folder
