"""Runs a module that runs its unit tests, and prints the result of each: name, space, result."""
import os
import runpy
import sys
import unittest

out = os.fdopen(os.dup(1), "w", buffering=1)


class Result(unittest.TextTestResult):
    def say(self, test, result):
        print("@" + test.id(), result, file=out)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.say(test, "ok")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say(test, "skipped")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.say(test, "failure")

    def addError(self, test, error):
        super().addError(test, error)
        self.say(test, "error")


unittest.TextTestRunner.resultclass = Result
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
