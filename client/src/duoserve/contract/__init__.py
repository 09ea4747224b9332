"""The contract between export, server and client: pure data, to and from JSON.

Export builds a model's signatures from it, the client encodes requests from it, and the
gate compares the two. Nothing here uses a file, a socket or TensorFlow.

A model carries its own `PreprocessingSpec` in the signature `describe`, so a client reads
it from its server, per version, and always matches the model.
"""

from duoserve.contract import answers as _answers
from duoserve.contract import audio as _audio
from duoserve.contract import signatures as _signatures
from duoserve.contract import spec as _spec
from duoserve.contract import tokenizers as _tokenizers
from duoserve.contract.answers import *
from duoserve.contract.audio import *
from duoserve.contract.records import ContractError
from duoserve.contract.signatures import *
from duoserve.contract.spec import *
from duoserve.contract.tokenizers import *

__all__ = ["ContractError"]
__all__ += _answers.__all__
__all__ += _audio.__all__
__all__ += _signatures.__all__
__all__ += _spec.__all__
__all__ += _tokenizers.__all__
