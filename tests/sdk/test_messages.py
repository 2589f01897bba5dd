"""Messages made of the JSON of answers."""

from claude_executor import message_from_json


def test_a_message_of_json_is_one_of_the_sdk():
    """Blocks and usage are objects, and fields that the SDK does not know are kept."""
    block = {"type": "text", "text": "Salve.", "new": 1}
    usage = {"input_tokens": 3, "output_tokens": 2}
    message = message_from_json({"id": "msg_1", "content": [block], "usage": usage, "fresh": True})
    assert message.content[0].text == "Salve."
    assert message.usage.output_tokens == 2
    assert message.to_dict() == {"id": "msg_1", "content": [block], "usage": usage, "fresh": True}
