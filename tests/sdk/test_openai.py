"""The official OpenAI SDK against the relay: what its users do, with what the provider sent as the yardstick."""

import json
import os
import unittest
import urllib.request

import openai

URL, KEY, SIMULATOR = (os.environ[name] for name in ("TRUERELAY_URL", "TRUERELAY_KEY", "SIMULATOR_URL"))
MODEL = "openai/gpt-4o"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def provider_log():
    with urllib.request.urlopen(f"{SIMULATOR}/_simulator/log") as response:
        log = json.load(response)
    return log if isinstance(log, list) else next(value for value in log.values() if isinstance(value, list))


def script(rule):
    body = json.dumps(rule).encode()
    request = urllib.request.Request(f"{SIMULATOR}/_simulator/script", data=body, headers={"content-type": "application/json"})
    urllib.request.urlopen(request).close()


def reset():
    urllib.request.urlopen(urllib.request.Request(f"{SIMULATOR}/_simulator", method="DELETE")).close()


class OpenAiSdk(unittest.TestCase):
    def setUp(self):
        reset()
        self.client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
        self.addCleanup(self.client.close)

    def ask(self, text="Say hello to the canary-prompt-5d1f0c.", **options):
        messages = options.pop("messages", [{"role": "user", "content": text}])
        return self.client.chat.completions.create(model=MODEL, messages=messages, max_tokens=60, **options)

    def test_plain(self):
        answer = self.ask()
        sent = provider_log()[-1]
        self.assertTrue(answer.choices[0].message.content)
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(answer.usage.completion_tokens, sent["usage"]["completion_tokens"])
        self.assertEqual(answer.usage.prompt_tokens, sent["usage"]["prompt_tokens"])
        self.assertTrue(answer._request_id.startswith("req_"))

    def test_stream_says_the_same_as_the_plain_answer(self):
        plain = self.ask().choices[0].message.content
        chunks = list(self.ask(stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertEqual(text, plain)
        self.assertEqual(chunks[-1].usage.completion_tokens, provider_log()[-1]["usage"]["completion_tokens"])

    def test_stream_without_usage(self):
        chunks = list(self.ask(stream=True))
        self.assertTrue(all(chunk.usage is None for chunk in chunks))
        self.assertTrue(all(chunk.choices for chunk in chunks))

    def test_tools(self):
        answer = self.ask("Please call the tool.", tools=[TOOL])
        call = answer.choices[0].message.tool_calls[0]
        self.assertEqual(call.function.name, "get_weather")
        self.assertIsInstance(json.loads(call.function.arguments), dict)
        arguments = ""
        for chunk in self.ask("Please call the tool.", tools=[TOOL], stream=True):
            for choice in chunk.choices:
                for part in choice.delta.tool_calls or []:
                    arguments += part.function.arguments or ""
        self.assertEqual(json.loads(arguments), json.loads(call.function.arguments))
        follow_up = self.ask(
            messages=[
                {"role": "user", "content": "Please call the tool."},
                answer.choices[0].message,
                {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
                {"role": "user", "content": "Thank you."},
            ],
            tools=[TOOL],
        )
        self.assertTrue(follow_up.choices[0].message.content)

    def test_image(self):
        content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
        answer = self.ask(messages=[{"role": "user", "content": content}])
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(provider_log()[-1]["body"]["messages"][0]["content"], content)

    def test_models(self):
        ids = [model.id for model in self.client.models.list()]
        self.assertIn(MODEL, ids)
        self.assertEqual(self.client.models.retrieve("gpt-4o").id, MODEL)

    def test_error_classes(self):
        wrong = openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-tr-wrong", max_retries=0)
        self.addCleanup(wrong.close)
        with self.assertRaises(openai.AuthenticationError):
            wrong.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}])
        with self.assertRaises(openai.NotFoundError) as unknown:
            self.client.chat.completions.create(model="no/model", messages=[{"role": "user", "content": "x"}])
        self.assertEqual(unknown.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError):
            self.ask(n=0)
        with self.assertRaises(openai.APIStatusError) as poor:
            self.client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}], max_tokens=900_000)
        self.assertEqual(poor.exception.status_code, 402)
        self.assertGreater(poor.exception.body["affordable_output_tokens"], 0)
        script({"answer": {"kind": "fixed", "status": 500, "body_json": {"error": {"message": "no"}}}})
        with self.assertRaises(openai.InternalServerError):
            self.ask()

    def test_error_in_the_stream(self):
        script({"faults": {"cut": {"after": {"events": 5}}}})
        with self.assertRaises(openai.APIError):
            list(self.ask(stream=True))

    def test_disconnect_in_mid_stream(self):
        script({"faults": {"hold_after_events": {"gate": "never", "events": 6}}})
        stream = self.ask(stream=True)
        next(iter(stream))
        stream.close()


if __name__ == "__main__":
    unittest.main()
