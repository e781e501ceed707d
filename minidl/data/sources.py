"""The datasets that `data.load` knows: their files, where those come from, and the checksums of what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = tuple(
    name
    for line in """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
    """.splitlines()
    for name in line.split()
)


@dataclass(frozen=True)
class Download:
    """A file as it is published: where, how many bytes, and its checksum as "sha256:…" or "md5:…"."""

    name: str
    urls: tuple[str, ...]
    size: int
    checksum: str


@dataclass(frozen=True)
class Source:
    """One dataset as files in a folder.

    Attributes
    ----------
    format : {"idx", "cifar", "svhn"}
        The reader.
    shape : (height, width, channels)
    train, test : int
        How many images there are; of a subset, how many there are at most.
    parts : dict of str
        The files that are read, plain, with the checksum of their content, or "" where none is published. Training
        parts come first.
    endings : tuple of str
        What a part's name may end with besides: compressed, it has the same content.
    downloads : tuple of Download
    archive, inside : str
        A file that holds all parts, and the folder that it makes when it is unpacked; empty if there is none.
    folders : tuple of str
        The names of the folder that holds the files.
    subset : Source, optional
        What may take its place where the whole is not there.
    exact : bool
        Whether there must be as many images as said.
    credit : str
    """

    name: str
    format: str
    shape: tuple[int, int, int]
    train: int
    test: int
    classes: tuple[str, ...]
    parts: dict[str, str]
    endings: tuple[str, ...]
    downloads: tuple[Download, ...]
    credit: str
    archive: str = ""
    inside: str = ""
    subset: Source | None = None
    exact: bool = True

    def locate(self, folder: Path) -> tuple[dict[str, Path], list[str]]:
        """Return where the parts lie in the folder, and the names of those that do not.

        Where not all parts lie there but the archive does, that is the only entry, under its own name.
        """
        for place in (folder, folder / self.inside):
            found = {}
            for part in self.parts:
                paths = (place / f"{part}{ending}" for ending in ("", *self.endings))
                path = next((path for path in paths if path.is_file()), None)
                if path is not None:
                    found[part] = path
            if found:
                break
        missing = [part for part in self.parts if part not in found]
        if missing and self.archive and (folder / self.archive).is_file():
            return {self.archive: folder / self.archive}, []
        return found, missing


def _files(where: tuple[str, ...], names: dict[str, tuple[int, str]]) -> tuple[Download, ...]:
    return tuple(
        Download(name, tuple(f"{url}/{name}" for url in where), size, checksum)
        for name, (size, checksum) in names.items()
    )


MNIST = Source(
    "mnist",
    "idx",
    (28, 28, 1),
    60_000,
    10_000,
    DIGITS,
    {
        "train-images-idx3-ubyte": "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    (".gz",),
    _files(
        ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
        {
            "train-images-idx3-ubyte.gz": (
                9_912_422, "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            "train-labels-idx1-ubyte.gz": (
                28_881, "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            "t10k-images-idx3-ubyte.gz": (
                1_648_877, "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            "t10k-labels-idx1-ubyte.gz": (
                4_542, "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        },
    ),
    "Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits, 1998; CC BY-SA 3.0",
)  # fmt: skip

FASHION_MNIST = Source(
    "fashion-mnist",
    "idx",
    (28, 28, 1),
    60_000,
    10_000,
    FASHION,
    {
        "train-images-idx3-ubyte": "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    (".gz",),
    _files(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
        ),
        {
            "train-images-idx3-ubyte.gz": (
                26_421_880, "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            "train-labels-idx1-ubyte.gz": (
                29_515, "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            "t10k-images-idx3-ubyte.gz": (
                4_422_102, "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            "t10k-labels-idx1-ubyte.gz": (
                5_148, "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        },
    ),
    "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, 2017; MIT licence, (c) 2017 Zalando SE",
)  # fmt: skip

_TORONTO = ("https://www.cs.toronto.edu/~kriz",)
_KRIZHEVSKY = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"

CIFAR_10 = Source(
    "cifar10",
    "cifar",
    (32, 32, 3),
    50_000,
    10_000,
    CIFAR10,
    {
        "data_batch_1.bin": "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    (".xz",),
    _files(_TORONTO, {"cifar-10-binary.tar.gz": (170_052_171, "md5:c32a1d4ab5d03f1284b67883e8d87530")}),
    _KRIZHEVSKY,
    archive="cifar-10-binary.tar.gz",
    inside="cifar-10-batches-bin",
)

CIFAR_100_SUBSET = Source(
    "cifar100-subset",
    "cifar",
    (32, 32, 3),
    50_000,
    10_000,
    CIFAR100,
    {
        "train.bin": "sha256:4b2a469e168c904b4a54e1b118abfb9fb9d94ddaa0896e21a9366e83f5950181",
        "test.bin": "sha256:98a66c0b20c3b4d809d708b407ffe595a91a1cfcf04a43296f9e57cadf789a5e",
    },
    (".xz",),
    (),
    _KRIZHEVSKY,
    exact=False,
)

CIFAR_100 = Source(
    "cifar100",
    "cifar",
    (32, 32, 3),
    50_000,
    10_000,
    CIFAR100,
    {"train.bin": "", "test.bin": ""},
    (".xz",),
    _files(_TORONTO, {"cifar-100-binary.tar.gz": (168_513_733, "md5:03b5dce01913d631647c71ecec9e9cb8")}),
    _KRIZHEVSKY,
    archive="cifar-100-binary.tar.gz",
    inside="cifar-100-binary",
    subset=CIFAR_100_SUBSET,
)

_STANFORD = ("http://ufldl.stanford.edu/housenumbers",)

SVHN = Source(
    "svhn",
    "svhn",
    (32, 32, 3),
    73_257,
    26_032,
    DIGITS,
    {
        "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
    },
    (),
    _files(
        _STANFORD,
        {
            "train_32x32.mat": (182_040_794, "md5:e26dedcc434d2e4c54c9b2d4a06d8373"),
            "test_32x32.mat": (64_275_384, "md5:eb5a983be6a315427106f1b164d9cef3"),
        },
    ),
    "Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011",
)

SOURCES = {source.name: source for source in (MNIST, FASHION_MNIST, CIFAR_10, CIFAR_100, SVHN)}
NAMES = ("digits", *SOURCES)
