"""A voice model made of VAD, speech recognition, a language model and a voice."""
