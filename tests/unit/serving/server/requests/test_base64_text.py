"""base64 inside of bodies, as callers write it."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.records.package import InputSpec
from serving.server.requests.base64_text import bytes_of_base64


def ask(server, body, **headers):
    status, _, answer = server.send("POST", "/v1/models/doubling:predict", body, headers)
    return status, answer


@given(st.binary(max_size=100), st.booleans(), st.booleans(), st.booleans())
def test_base64_is_read_in_both_alphabets_with_or_without_padding(content, is_web, is_bare, is_cut):
    encode = base64.urlsafe_b64encode if is_web else base64.b64encode
    text = encode(content).decode()
    text = text.rstrip("=") if is_bare else text
    text = "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76)) if is_cut else text
    assert bytes_of_base64(text) == content


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A", "1 characters cannot be base64; is it cut off"),
        ("AAAAA", "5 characters cannot be base64"),
        ("AP8==", "2 padding characters, expected 1 or 0"),
        ("AA=", "1 padding characters, expected 2 or 0"),
        ("AAAA=", "1 padding characters, expected 0 or 0"),
        ("====", "4 padding characters, expected 0 or 0"),
        ("AA=A", "character 2 is '='"),
        ("AA.A", r"character 2 is '\.'"),
        ("AA%3D", "5 characters"),
        ("AP8\N{FULLWIDTH EQUALS SIGN}", "character 3 is"),
        ("ÄAAA", "character 0 is 'Ä'"),
        ("data:image/png;base64,AAA", "character 4 is ':'|25 characters"),
    ],
)
def test_what_is_no_base64_is_refused_with_the_reason(text, words):
    with pytest.raises(ValueError, match=words):
        bytes_of_base64(text)


@given(st.text(max_size=12))
def test_any_text_is_base64_or_refused_in_words(text):
    try:
        found = bytes_of_base64(text)
    except ValueError as error:
        assert str(error)
    else:
        assert base64.b64encode(found).decode().rstrip("=")[:-1] in text.translate(
            str.maketrans("-_", "+/", " \t\r\n")
        )


def test_a_request_names_the_place_of_wrong_base64(serve, manifest, engine):
    with serve(manifest(inputs={"word": InputSpec(dtype="string")}), engine) as server:
        rows = [{"word": {"b64": "AP8"}}, {"word": {"b64": "AA=A"}}]
        status, answer = ask(server, json.dumps({"instances": rows}).encode())
    assert (status, answer["error"]) == (
        400,
        "instances[1].word.b64: not base64: character 2 is '='",
    )
