import json
import logging

from bridge.logs import JsonFormatter, TextFormatter, call_id


def record(**extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "bridge.legs.sip", "levelname": "INFO", "msg": "call"})
    made.__dict__.update(extra)
    return made


def test_text_shows_fields_and_defuses_control_characters() -> None:
    line = TextFormatter().format(record(peer="a\x1b[31m\r\nINVITE", status=200))
    assert line.endswith('legs.sip: call  peer="a\\u001b[31m\\r\\nINVITE" status=200')


def test_json_carries_the_call() -> None:
    token = call_id.set("rtc_a_b")
    try:
        entry = json.loads(JsonFormatter().format(record(status=200)))
    finally:
        call_id.reset(token)
    assert (entry["message"], entry["status"], entry["call_id"]) == ("call", 200, "rtc_a_b")
