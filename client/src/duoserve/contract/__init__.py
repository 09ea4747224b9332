"""The contract between export, server and client: pure data, to and from JSON.

Export builds a model's signatures from it, the client encodes requests from it, and the
gate compares the two. Nothing here uses a file, a socket or TensorFlow.

A model carries its own `PreprocessingSpec` in the signature `describe`, so a client reads
it from its server, per version, and always matches the model.
"""

from duoserve.contract.answers import (
    ANSWERS,
    BAR,
    ONE_CLASS,
    Answer,
    OneClass,
    Scores,
    Tags,
    YesNo,
    normal_name,
    score_of_column,
)
from duoserve.contract.audio import AudioSpec
from duoserve.contract.records import ContractError
from duoserve.contract.signatures import (
    DESCRIBE,
    EMBED,
    EXPLAIN,
    SERVING_BYTES,
    SERVING_DEFAULT,
    SignatureSpec,
    TensorSpec,
    answer_tensor,
    signatures,
)
from duoserve.contract.spec import AUDIO, IMAGE, TEXT, PreprocessingSpec
from duoserve.contract.tokenizers import (
    BPE,
    SENTENCEPIECE,
    TOKENIZERS,
    UNIGRAM,
    WORDPIECE,
    pack_tokenizer,
    unpack_tokenizer,
)

__all__ = [
    "ANSWERS",
    "AUDIO",
    "BAR",
    "BPE",
    "DESCRIBE",
    "EMBED",
    "EXPLAIN",
    "IMAGE",
    "ONE_CLASS",
    "SENTENCEPIECE",
    "SERVING_BYTES",
    "SERVING_DEFAULT",
    "TEXT",
    "TOKENIZERS",
    "UNIGRAM",
    "WORDPIECE",
    "Answer",
    "AudioSpec",
    "ContractError",
    "OneClass",
    "PreprocessingSpec",
    "Scores",
    "SignatureSpec",
    "Tags",
    "TensorSpec",
    "YesNo",
    "answer_tensor",
    "normal_name",
    "pack_tokenizer",
    "score_of_column",
    "signatures",
    "unpack_tokenizer",
]
