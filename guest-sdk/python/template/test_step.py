"""Run with `remit step test`: on this machine, without the sandbox."""

import unittest

from remit.fake import Fake

from step import greet


class Greet(unittest.TestCase):
    def test_it_greets(self):
        run = Fake().call(greet, {"name": "Ada"})
        self.assertEqual(run.output, {"greeting": "Hello, Ada!"})
        self.assertEqual(run.messages, ["greeting"])

    def test_nobody_is_a_failure(self):
        run = Fake().call(greet, {"name": ""})
        self.assertIn("nobody", run.failure.message)

    def test_an_input_that_does_not_fit_names_its_place(self):
        run = Fake().call(greet, {"name": 7})
        self.assertEqual(run.failure.message, "the input does not fit: at `name`: expected string, found integer")
