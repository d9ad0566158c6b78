"""Kamailio: a registrar with nonces of a second and 423 below four, and what stands before it."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from tests.ports import free_port

MODULES = ("/usr/lib/x86_64-linux-gnu/kamailio/modules/", "/usr/lib/kamailio/modules/")
REALM = "pbx.example"
USER = "1000"
PASSWORD = "secret"

HEAD = """#!KAMAILIO
debug=1
log_stderror=yes
children={children}
listen=udp:127.0.0.1:{port}
listen=tcp:127.0.0.1:{port}
mpath="{modules}"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "textops.so"
"""
REGISTRAR = """loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "siputils.so"
modparam("auth", "nonce_expire", 1)
modparam("auth", "nonce_count", 1)
modparam("auth", "qop", "auth")
modparam("auth", "algorithm", "{algorithm}")
modparam("registrar", "min_expires", 1)
modparam("registrar", "path_mode", 0)
modparam("registrar", "use_path", 1)
request_route {{
    if (is_method("REGISTER")) {{
        if (!pv_www_authenticate("{realm}", "{password}", "0")) {{
            www_challenge("{realm}", "1");
            exit;
        }}
        if ($hdr(Expires) != "0" && $(hdr(Expires){{s.int}}) < 4) {{
            append_to_reply("Min-Expires: 4\\r\\n");
            sl_send_reply("423", "Interval Too Brief");
            exit;
        }}
        append_to_reply("Service-Route: <sip:127.0.0.1:{port};lr>\\r\\n");
        save("location");
        exit;
    }}
    if (has_totag()) {{
        t_relay();
        exit;
    }}
    if (!lookup("location")) {{
        sl_send_reply("404", "Not Found");
        exit;
    }}
    t_relay();
}}
"""
# Calls go to the nodes in turn; one that does not answer in time, or 503, is passed over.
EDGE = """
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "dispatcher.so"
modparam("tm", "fr_timer", 2000)
modparam("tm", "fr_inv_timer", 3000)
modparam("rr", "append_fromtag", 1)
modparam("dispatcher", "list_file", "{home}/nodes")
modparam("dispatcher", "flags", 2)
modparam("dispatcher", "xavp_dst", "_dst")
modparam("dispatcher", "ds_ping_interval", 1)
modparam("dispatcher", "ds_probing_mode", 1)
modparam("dispatcher", "ds_probing_threshold", 1)
modparam("dispatcher", "ds_ping_reply_codes", "class=2")
request_route {{
    if (!mf_process_maxfwd_header("10")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    if (has_totag()) {{
        if (loose_route()) {{
            t_relay();
        }} else if (is_method("ACK") && t_check_trans()) {{
            t_relay();
        }}
        exit;
    }}
    if (is_method("CANCEL")) {{
        if (t_check_trans()) t_relay();
        exit;
    }}
    if (!is_method("INVITE")) {{
        sl_send_reply("404", "Not Found");
        exit;
    }}
    t_check_trans();
    record_route();
    if (!ds_select_dst("1", "4")) {{
        sl_send_reply("503", "No Node");
        exit;
    }}
    t_on_failure("NEXT");
    t_relay();
}}
failure_route[NEXT] {{
    if (t_is_canceled()) exit;
    if (t_check_status("503") || t_branch_timeout()) {{
        ds_mark_dst("ip");
        if (ds_next_dst()) {{
            t_on_failure("NEXT");
            t_relay();
        }}
    }}
}}
"""
# Between phones and a registrar: what comes for them goes back by here (RFC 3327).
GATE = """
loadmodule "path.so"
loadmodule "siputils.so"
request_route {{
    if (is_method("REGISTER")) {{
        add_path();
        $du = "sip:127.0.0.1:{registrar}";
    }} else if (has_totag()) {{
        loose_route();
    }} else if (is_method("CANCEL")) {{
        if (!t_check_trans()) exit;
    }} else if (is_present_hf("Route")) {{
        loose_route();
        record_route();
    }} else {{
        $du = "sip:127.0.0.1:{registrar}";
    }}
    t_relay();
}}
"""
PROBE = (
    "OPTIONS sip:nobody@127.0.0.1:{port} SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bKprobe\r\n"
    "From: <sip:probe@127.0.0.1>;tag=p\r\nTo: <sip:nobody@127.0.0.1>\r\n"
    "Call-ID: probe\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


class Kamailio:
    """Takes `USER` with `PASSWORD`, on UDP and TCP at `port`."""

    def __init__(self, algorithm: Literal["MD5", "SHA-256"] = "MD5") -> None:
        self.port = free_port()
        self._home = tempfile.TemporaryDirectory(prefix="kamailio-")
        self._algorithm = algorithm
        self._start()

    def _config(self) -> str:
        return (HEAD + REGISTRAR).format(
            port=self.port,
            children=2,
            modules=_first_there(MODULES),
            algorithm=self._algorithm,
            realm=REALM,
            password=PASSWORD,
        )

    def restart(self) -> None:
        """With its memory of bindings and nonces gone."""
        self._stop()
        self._start()

    def __enter__(self) -> "Kamailio":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._home.cleanup()

    def _start(self) -> None:
        home = Path(self._home.name)
        (home / "kamailio.cfg").write_text(self._config())
        options = ["-DD", "-E", "-m", "64", "-M", "8", "-Y", str(home), "-P", str(home / "pid")]
        with (home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["kamailio", "-f", str(home / "kamailio.cfg"), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 10
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((home / "log").read_text()[-2000:])

    def _answers(self) -> bool:
        """Whether it has begun to answer; it binds its sockets long before."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.1)
            probe.connect(("127.0.0.1", self.port))
            try:
                probe.send(PROBE.format(port=self.port).encode())
                return b"404" in probe.recv(4096)
            except TimeoutError:
                return False
            except ConnectionRefusedError:
                time.sleep(0.05)
                return False

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Edge(Kamailio):
    """Puts itself on the route of calls, and spreads them over the nodes."""

    def __init__(self, nodes: Sequence[tuple[str, int]]) -> None:
        self._nodes = nodes
        super().__init__()

    def _config(self) -> str:
        home = self._home.name
        lines = [f"1 sip:{host}:{port} 0 0\n" for host, port in self._nodes]
        Path(home, "nodes").write_text("".join(lines))
        modules = _first_there(MODULES)
        # Of two, one might bring a 180 behind the 200.
        return (HEAD + EDGE).format(port=self.port, children=1, modules=modules, home=home)


class Gate(Kamailio):
    """Keeps connections to phones for a registrar."""

    def __init__(self, registrar: Kamailio) -> None:
        self._registrar = registrar.port
        super().__init__()

    def _config(self) -> str:
        return (HEAD + GATE).format(
            port=self.port,
            children=1,
            modules=_first_there(MODULES),
            registrar=self._registrar,
        )


def _first_there(paths: Iterable[str]) -> str:
    return next((path for path in paths if Path(path).is_dir()), "")
