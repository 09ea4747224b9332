"""Do the encoders give what their authors' own code gives? `python -m demo.pretrained.published`

MiniLM: the similarities of three sentences in the documentation of sentence-transformers (sbert.net,
"Quickstart"). EfficientNet-Lite0: the photo of Grace Hopper that TensorFlow's examples classify and
matplotlib carries is a "military uniform".
"""

import sys
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from PIL import Image
from tokenizers import BertWordPieceTokenizer

from demo.pretrained.efficientnet_lite import image_encoder
from demo.pretrained.minilm import text_encoder
from demo.pretrained.weights import image_weights, text_weights, tokenizer_files

SENTENCES: Final = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
SIMILARITIES: Final = ((1.0, 0.6660, 0.1046), (0.6660, 1.0, 0.1411), (0.1046, 0.1411, 1.0))
_MILITARY_UNIFORM: Final = 652
_LEAST_PROBABILITY: Final = 0.3
_SIZE: Final = 224


def main() -> int:
    """0 if both are as published."""
    tokenizer = BertWordPieceTokenizer(str(tokenizer_files()[0]), lowercase=True)
    tokenizer.enable_padding()
    ids = np.array([each.ids for each in tokenizer.encode_batch(list(SENTENCES))], np.int32)
    vectors = text_encoder(ids.shape[1], text_weights())(ids)[-1].numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    difference = float(np.abs(vectors @ vectors.T - SIMILARITIES).max())
    print(
        f"MiniLM: similarities of {len(SENTENCES)} sentences differ from the published ones by at most {difference:.1e}"
    )

    photo = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(photo) as image:
        pixels = np.array(image.convert("RGB").resize((_SIZE, _SIZE), Image.Resampling.BICUBIC), np.float32)
    logits = image_encoder(_SIZE, image_weights(), classes=1000)(pixels[None]).numpy()[0]
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    best = int(probabilities.argmax())
    print(f"EfficientNet-Lite0: {photo.name} is class {best} with {probabilities[best]:.0%}; 652 is 'military uniform'")
    as_published = difference < 1e-4 and best == _MILITARY_UNIFORM and probabilities[best] > _LEAST_PROBABILITY
    if not as_published:
        print("error: Expected both encoders to give what is published. Received: the above", file=sys.stderr)
    return 0 if as_published else 1


if __name__ == "__main__":
    sys.exit(main())
