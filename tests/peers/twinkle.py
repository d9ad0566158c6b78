"""Twinkle, headless: one user, who calls and is called; its microphone is silent."""

from tests.peers.console import Console
from tests.ports import free_port, media_ports

# ALSA's own nowhere: without a sound card Twinkle makes no calls.
ASOUND = "pcm.!default { type null }\nctl.!default { type null }\n"
USER = "user_name=caller\nuser_domain=127.0.0.1\nregister_at_startup=no\n"


class Twinkle(Console):
    def __init__(self) -> None:
        super().__init__("twinkle")
        self.port = free_port()
        settings = self.home / ".twinkle"
        settings.mkdir()
        (self.home / ".asoundrc").write_text(ASOUND)
        (settings / "user.cfg").write_text(USER)
        devices = "".join(f"dev_{name}=alsa:default\n" for name in ("ringtone", "speaker", "mic"))
        (settings / "twinkle.sys").write_text(
            f"{devices}validate_audio_dev=no\nsip_port={self.port}\nrtp_port={media_ports(10)[0]}\n"
            "play_ringtone=no\nplay_ringback=no\n"
        )
        self.start(["twinkle-console", "user.cfg"], {})
        assert self.wait("Local IP"), self.lines
