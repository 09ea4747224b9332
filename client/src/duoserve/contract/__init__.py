"""The contract between export, server and client: pure data, to and from JSON.

Export builds a model's signatures from it, the client encodes requests from it, and the
gate compares the two. Nothing here uses a file, a socket or TensorFlow.

A model carries its own `PreprocessingSpec` in the signature `describe`, so a client reads
it from its server, per version, and always matches the model.
"""

from duoserve.contract import answers, audio, spec, tokenizers
from duoserve.contract import signatures as _signatures
from duoserve.contract.answers import *
from duoserve.contract.audio import *
from duoserve.contract.records import ContractError
from duoserve.contract.signatures import *
from duoserve.contract.spec import *
from duoserve.contract.tokenizers import *

__all__ = ["ContractError"]
__all__ += answers.__all__
__all__ += audio.__all__
__all__ += _signatures.__all__
__all__ += spec.__all__
__all__ += tokenizers.__all__
