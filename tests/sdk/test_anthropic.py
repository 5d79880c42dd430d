"""The official Anthropic SDK against the relay: what its users do, with what the provider sent as the yardstick."""

import json
import unittest

import anthropic

from test_openai import KEY, PIXEL, URL, provider_log, reset, script

MODEL = "anthropic/claude-sonnet-4.6"
TOOL = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class AnthropicSdk(unittest.TestCase):
    def setUp(self):
        reset()
        self.client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
        self.addCleanup(self.client.close)

    def options(self, text="Say hello to the canary-prompt-5d1f0c.", **options):
        messages = options.pop("messages", [{"role": "user", "content": text}])
        return {"model": MODEL, "messages": messages, "max_tokens": 60, **options}

    def test_plain(self):
        answer = self.client.messages.create(**self.options())
        sent = provider_log()[-1]
        self.assertTrue(answer.content[0].text)
        self.assertEqual(answer.usage.output_tokens, sent["usage"]["output_tokens"])
        self.assertEqual(answer.usage.input_tokens, sent["usage"]["input_tokens"])
        self.assertTrue(answer._request_id.startswith("req_"))

    def test_stream_says_the_same_as_the_plain_answer(self):
        plain = self.client.messages.create(**self.options())
        with self.client.messages.stream(**self.options()) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(text, plain.content[0].text)
        self.assertEqual(final.usage.output_tokens, provider_log()[-1]["usage"]["output_tokens"])
        self.assertEqual(final.stop_reason, plain.stop_reason)

    def test_tools(self):
        answer = self.client.messages.create(**self.options("Please call the tool.", tools=[TOOL]))
        call = next(block for block in answer.content if block.type == "tool_use")
        self.assertEqual((call.name, answer.stop_reason), ("get_weather", "tool_use"))
        with self.client.messages.stream(**self.options("Please call the tool.", tools=[TOOL])) as stream:
            final = stream.get_final_message()
        streamed = next(block for block in final.content if block.type == "tool_use")
        self.assertEqual(streamed.input, call.input)
        follow_up = self.client.messages.create(
            **self.options(
                messages=[
                    {"role": "user", "content": "Please call the tool."},
                    {"role": "assistant", "content": answer.content},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]},
                ],
                tools=[TOOL],
            )
        )
        self.assertTrue(follow_up.content)

    def test_image(self):
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL.split(",", 1)[1]}
        content = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
        answer = self.client.messages.create(**self.options(messages=[{"role": "user", "content": content}]))
        self.assertTrue(answer.content[0].text)
        self.assertEqual(provider_log()[-1]["body"]["messages"][0]["content"], content)

    def test_models(self):
        models = list(self.client.models.list())
        self.assertIn(MODEL, [model.id for model in models])
        self.assertEqual(self.client.models.retrieve("claude-sonnet-4-6").id, MODEL)

    def test_error_classes(self):
        wrong = anthropic.Anthropic(base_url=URL, api_key="sk-tr-wrong", max_retries=0)
        self.addCleanup(wrong.close)
        with self.assertRaises(anthropic.AuthenticationError):
            wrong.messages.create(**self.options())
        with self.assertRaises(anthropic.NotFoundError) as unknown:
            self.client.messages.create(**{**self.options(), "model": "no/model"})
        self.assertEqual(unknown.exception.body["error"]["code"], "model_not_found")
        with self.assertRaises(anthropic.APIStatusError) as poor:
            self.client.messages.create(**{**self.options(), "max_tokens": 900_000}, timeout=60)
        self.assertEqual(poor.exception.status_code, 402)
        self.assertGreater(poor.exception.body["error"]["affordable_output_tokens"], 0)
        script({"answer": {"kind": "fixed", "status": 500, "body_json": {"error": {"message": "no"}}}})
        with self.assertRaises(anthropic.InternalServerError):
            self.client.messages.create(**self.options())

    def test_error_in_the_stream(self):
        script({"faults": {"cut": {"after": {"events": 6}}}})
        with self.assertRaises(anthropic.APIError):
            with self.client.messages.stream(**self.options()) as stream:
                for _ in stream.text_stream:
                    pass

    def test_disconnect_in_mid_stream(self):
        script({"faults": {"hold_after_events": {"gate": "never", "events": 6}}})
        stream = self.client.messages.create(**self.options(), stream=True)
        next(iter(stream))
        stream.close()
        self.assertTrue(json.dumps(provider_log()[-1]))


if __name__ == "__main__":
    unittest.main()
