"""PCM as numpy arrays: codecs, resampling, levels, tones."""
