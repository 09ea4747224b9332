"""Two pretrained encoders joined into a model of image and text, from weights to answers: `make demo-pretrained`."""
