"""What the configurations of jobs have in common, and what their options are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from wb.core.architecture import Architecture
from wb.core.commands.option import Cli, option_of
from wb.core.errors import BadOption
from wb.core.records import Frozen
from wb.core.system.durations import parse_duration
from wb.data.spec import with_columns
from wb.training.recipes.recipe import RecipeOptions

if TYPE_CHECKING:
    from wb.data import Dataset

SCRATCH, FINETUNE = 60, 20  # epochs of a network from scratch, and of a trained one
# The same on texts, of which a network soon knows all, and on passages, each of which has many tokens to learn from.
PASSES: Mapping[str, tuple[int, int]] = {"texts": (16, 8), "passages": (4, 2)}
SAMPLES = "--samples"  # the option for a number of images; `--calibration` says which, where they can be chosen
_DATA = Field(
    description="digits, imagefolder:PATH, idx:PATH (MNIST-style), cifar10:PATH, npz:FILE or hf:PLACE; texts: csv:FILES, "
    "jsonl:FILES or listops; to foresee: lm:FILES, or lm (Python's documentation)."
)
_SIDE = Field(description="Resize the images of a folder to this side.")
_LIMIT = Field(description="Use at most this many training images.")
Data = Annotated[str, _DATA]
ModelData = Annotated[str, _DATA, Cli(default="those the model was trained with; digits without a model")]
ModelSize = Annotated[int | None, _SIDE, Cli(default="what the model takes")]
ByIndex = Annotated[
    bool, Field(description="Take the classes of the data in their order, though they are named otherwise.")
]
DeviceName = Annotated[
    str,
    Field(
        description="Where latency is measured: cpu, openvino, a plugin (ep-webgpu), a profile or an address (`wb device`)."
    ),
]
ScoreOn = Annotated[
    Literal["here", "device"],
    Field(
        description="Where accuracy is scored: here, by ONNX Runtime, or on --device, whose kernels may round otherwise."
    ),
]
Threads = Annotated[int, Field(ge=1, description="Threads of the runtime and of training.")]
LearningRate = Annotated[
    float, Field(ge=1e-9, allow_inf_nan=False, description="Peak of the learning rate, in fine-tuning.")
]
Seed = Annotated[int, Field(ge=0, lt=2**32, description="Seed of everything random.")]


Truncate = Annotated[
    bool,
    Field(
        description="Of texts that are longer than the network reads take the beginning, and say how many; they are refused "
        "otherwise."
    ),
]


class Columns(Frozen):
    """What is told of texts, in tables or not; `data` says it too, and is where it goes (`wb.data.spec.with_columns`)."""

    text_column: Annotated[
        str | None,
        Field(description="Of csv: and jsonl: data: the column of texts.", exclude=True),
        Cli(default="one called text, sentence or alike"),
    ] = None
    label_column: Annotated[
        str | None,
        Field(description="Of csv: and jsonl: data: the column of labels.", exclude=True),
        Cli(default="one called label, category or alike"),
    ] = None
    tokenizer: Annotated[
        str | None,
        Field(
            description="Of csv: and jsonl: data: bpe or words, trained on the training texts; or a tokenizer.json, or a folder "
            "that has one. Of lm: characters, bytes or bpe.",
            exclude=True,
        ),
        Cli(default="bpe; of lm characters, where there are few; with a model its own"),
    ] = None
    truncate: Annotated[Truncate, Field(exclude=True)] = False

    @model_validator(mode="before")
    @classmethod
    def _in_data(cls, given: Any) -> Any:
        return with_columns(given) if isinstance(given, Mapping) else given


def _without_tokenizer(given: Any, where: str) -> Any:
    """Raises `BadOption` where a tokenizer is named for a network that has its own."""
    if isinstance(given, Mapping) and given.get("tokenizer") is not None:
        raise BadOption(f"--tokenizer is of no use with {where}: a network writes texts with its own; leave it out")
    return given


class DataConfig(Columns):
    """What every job is told, whatever it works on: its data; `data` is None for a job without data."""

    data: Data | None = "digits"
    image_size: Annotated[int | None, _SIDE, Cli(default="their own where all have the same, else 64")] = None
    limit: Annotated[int | None, _LIMIT, Cli(default="all")] = None

    @model_validator(mode="after")
    def _of_texts(self) -> Self:
        if self.truncate:  # it is said by the data, where there are any
            raise BadOption("--truncate is for texts; name them with --data csv:train.csv,test.csv")
        return self

    def tuned_for(self, architecture: Architecture) -> Self:
        """The same, with the settings of fine-tuning that depend on the network; itself unless a job has such."""
        del architecture
        return self


class JobConfig(DataConfig):
    """The other fields of every job on trained models: how classes are matched, and where the job runs."""

    @model_validator(mode="before")
    @classmethod
    def _as_the_model_reads(cls, given: Any) -> Any:
        return _without_tokenizer(given, "a job on a trained model")

    data: ModelData | None = "digits"
    image_size: ModelSize = None
    limit: Annotated[int | None, _LIMIT, Cli(default="as many as the model was trained with")] = None
    by_index: ByIndex = False
    device: DeviceName = "cpu"
    threads: Threads = 1


class TrainConfig(DataConfig):
    """What `wb train` trains, and how; `architecture` is a file, else the usual network of `preset`.

    With `model`, a file, that is fine-tuned: with its own head where its classes are those of the data, else with a new one.
    """

    model: Annotated[
        Path | None,
        Field(
            description="Fine-tune this model: a model file, or a checkpoint of another library. For classes that are not its "
            "own it gets a new head."
        ),
        Cli("--from", default="train from scratch"),
    ] = None
    new_head: Annotated[
        bool, Field(description="With --from: a new head, though the classes are those of the model.")
    ] = False
    freeze: Annotated[
        bool, Field(description="With --from: train the head alone; all else stays as it is in the model.")
    ] = False
    by_index: Annotated[
        bool,
        Field(
            description="With --from: keep the head, and take the classes of the data in their order, though they are named "
            "otherwise."
        ),
    ] = False
    preset: Annotated[
        str,
        Field(
            description="Train the usual network of this preset: of space vit the largest with softmax attention, of space "
            "hybrid a residual network of middle size; `wb spaces` lists them. auto: by the images."
        ),
    ] = "auto"
    architecture: Annotated[
        Path | None,
        Field(description="Train this architecture: a JSON file, or a model file whose weights are ignored."),
        Cli(default="that of --preset"),
    ] = None
    data: Annotated[str, _DATA, Cli(default="digits; with --from those the model was trained with")] = "digits"
    epochs: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="Passes over the training images."),
        Cli(
            default=f"{SCRATCH}; with --from {FINETUNE}; on "
            + "; on ".join(f"{noun} {scratch} and {tuned}" for noun, (scratch, tuned) in PASSES.items())
        ),
    ] = None
    learning_rate: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
        Field(description="Peak of the learning rate."),
        Cli(default="as the recipe says"),
    ] = None
    batch: Annotated[
        Annotated[int, Field(ge=1)] | None, Field(description="Images per step."), Cli(default="as the recipe says")
    ] = None
    training: RecipeOptions = RecipeOptions()
    teacher: Annotated[
        Path | None,
        Field(description="A trained model whose answers on the same images are half of what is learned."),
        Cli(default="none"),
    ] = None
    keep_checkpoints: Annotated[
        bool,
        Field(
            description="Keep the model before the first epoch and after every one, in a folder beside it, for "
            "`wb analyze attention`."
        ),
    ] = False
    threads: Threads = 1
    seed: Seed = 0

    def passes(self, data: Dataset) -> int:
        """The epochs, as given or as usual for such data."""
        scratch, finetune = PASSES.get(data.train.noun, (SCRATCH, FINETUNE))
        return self.epochs or (scratch if self.model is None else finetune)

    @model_validator(mode="before")
    @classmethod
    def _as_the_model_reads(cls, given: Any) -> Any:
        tuned = isinstance(given, Mapping) and given.get("model") is not None
        return _without_tokenizer(given, "--from") if tuned else given

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.model is None:
            for name in ("new_head", "freeze", "by_index"):
                if getattr(self, name):
                    raise BadOption(f"{option_of(TrainConfig, name)} is for a trained model; say which with --from")
            return self
        if self.architecture is not None or self.preset != "auto":
            other = "--preset" if self.architecture is None else "--architecture"
            raise BadOption(
                f"--from fine-tunes the network of its model, and {other} names another; give one of the two"
            )
        if self.freeze:
            self.training.check_once("with --freeze nothing is dropped")
        if self.new_head and self.by_index:
            raise BadOption("--by-index keeps the head of the model, and --new-head replaces it; give one of the two")
        return self


class MeasureConfig(Columns):
    """How `wb measure` measures a file: on which data and `split`, with how many images a run, for `cap` seconds at most."""

    data: Annotated[str | None, _DATA, Cli(default="those the model was trained with, if any")] = None
    split: Annotated[str, Field(description="Images for the accuracy: validation or test.")] = "test"
    image_size: ModelSize = None
    by_index: ByIndex = False
    batch: Annotated[int, Field(ge=1, description="Images per run when timing.")] = 1
    tokens: Annotated[
        Annotated[int, Field(ge=1, le=1 << 15)] | None,
        Field(description="Of networks for texts: tokens of a text when timing."),
        Cli(default="the model's, which 95 % of its training texts do not exceed, a multiple of 8"),
    ] = None
    cap: Annotated[float, Field(ge=0.1, description="Seconds after which timing stops, narrow enough or not.")] = 10.0
    sustained: Annotated[
        str | None,
        Field(description="Also run it for so long, e.g. 5min, and compare the last fifth with the first."),
        Cli(default="it is not"),
    ] = None
    device: Annotated[
        str,
        Field(
            description="Where latency is measured: cpu, openvino, a plugin (ep-webgpu), web (node), litert, litert-int8, "
            "table:FILE, a profile or an address (`wb device`); several, with commas between, are set against the first."
        ),
    ] = "cpu"
    score_on: ScoreOn = "here"
    threads: Threads = 1
    seed: Seed = 0

    @field_validator("sustained")
    @classmethod
    def _a_time(cls, given: str | None) -> str | None:
        if given is not None:
            parse_duration(given)
        return given
