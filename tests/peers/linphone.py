"""linphone, headless: registers if it is told to, answers every call and hears files for sound."""

import time
from typing import Literal

from tests.peers.console import Console
from tests.ports import free_port, media_ports

START_S = 1.0  # it says nothing when it is ready


class Linphone(Console):
    def __init__(
        self,
        *,
        transport: Literal["udp", "tcp"] = "udp",
        encryption: Literal["none", "srtp"] = "none",
        ipv6: bool = False,
        ice: bool = False,
    ) -> None:
        """`encryption` srtp: with keys in SDP, or not at all. `ipv6`: as it comes: its SDP names an
        IPv6 address where the host has one, whatever it signals by."""
        super().__init__("linphone")
        self._transport = transport
        home = self.home
        for folder in (".config/linphone", ".local/share/linphone"):
            (home / folder).mkdir(parents=True)
        ports = {name: free_port() if name == transport else 0 for name in ("udp", "tcp")}
        self.port = ports[transport]
        (home / "rc").write_text(
            f"[sip]\nsip_port={ports['udp']}\nsip_tcp_port={ports['tcp']}\nsip_tls_port=0\n"
            f"guess_hostname=0\nmedia_encryption={encryption}\n"
            f"media_encryption_mandatory={int(encryption != 'none')}\n"
            f"contact=sip:caller@127.0.0.1\nkeepalive_period=1000\nuse_ipv6={int(ipv6)}\nipv6_migration_done=1\n[rtp]\n"
            f"audio_rtp_port={media_ports(10)[0]}\n"
            "[video]\nenabled=0\ncapture=0\ndisplay=0\n[sound]\nechocancellation=0\n"
            "[net]\nmtu=1300\nenable_nat_helper=0\nnat_policy_ref=policy\n[nat_policy_0]\n"
            f"ref=policy\nprotocols={'ice' if ice else ''}\n[misc]\nfile_transfer_server_url=\n"
            "[audio_codec_0]\nmime=PCMU\nrate=8000\nchannels=1\nenabled=1\n"
        )
        environment = {
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_DATA_HOME": str(home / ".local/share"),
        }
        self.start(["linphonec", "-c", str(home / "rc"), "-d", "0", "-C", "-a"], environment)
        time.sleep(START_S)
        self.command("soundcard use files")

    def register(self, user: str, registrar: str, password: str) -> None:
        suffix = f";transport={self._transport}" if self._transport != "udp" else ""
        host = registrar.partition(":")[0]
        self.command(f"register sip:{user}@{host} sip:{registrar}{suffix} {password}")
