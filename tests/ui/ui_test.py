#!/usr/bin/env python3
"""The web page in a real browser: unseal, sign in, write, read, a new version, sign out.

    ui_test.py BIN_DIR

Needs Debian's chromium and chromium-driver, and selenium from PyPI: part of scripts/test --e2e.
"""

import os
import sys
import unittest

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from coffer_test import Keystore  # noqa: E402

BIN_DIR = os.path.abspath(sys.argv.pop(1))
PATIENCE = 60


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.keystore = Keystore(BIN_DIR, extra_config="ui = true\n")
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        cls.browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))

    @classmethod
    def tearDownClass(cls):
        cls.browser.quit()
        cls.keystore.stop()

    def wait_for(self, path):
        return WebDriverWait(self.browser, PATIENCE).until(
            lambda browser: next((e for e in browser.find_elements(By.XPATH, path) if e.is_displayed()),
                                 None), path)

    def title(self, text):
        return self.wait_for(f"//h1[.='{text}']")

    def fill(self, label, text):
        field = self.wait_for(f"//*[@id=//label[.='{label}']/@for]")
        field.clear()
        field.send_keys(text)

    def press(self, text):
        self.wait_for(f"//button[.='{text}']").click()

    def open(self, path):
        self.browser.execute_script("location.hash = arguments[0]", path)

    def test_from_sealed_to_signed_out(self):
        self.browser.get(self.keystore.address + "/")
        self.title("Not initialized")
        shares, root = self.keystore.initialize(shares=3, threshold=2)
        self.keystore.must("PUT", "sys/mounts/secret", {"type": "kv-v2"}, root)
        self.keystore.must("PUT", "sys/seal", token=root)

        self.browser.refresh()
        self.title("Sealed")
        self.fill("Unseal key share", shares[0])
        self.press("Unseal")
        self.wait_for("//p[.='1 of 2 shares are given.']")
        self.fill("Unseal key share", shares[1])
        self.press("Unseal")

        self.title("Sign in")
        self.fill("Token", "hvs.wrong")
        self.press("Sign in")
        self.wait_for("//*[@id='message' and contains(., 'does not know this token')]")
        self.fill("Token", root)
        self.press("Sign in")
        self.title("This keystore")

        self.open("/secrets/secret/webapp/config")
        self.title("secret/webapp/config")
        self.fill("Data, as JSON", '{"password": "hunter2<b>", "user": "anna"}')
        self.press("Save")
        self.wait_for("//td[.='password']")
        self.assertNotIn("hunter2", self.browser.page_source)
        self.wait_for("//tr[td[.='password']]//button[.='Show']").click()
        self.wait_for("//span[.='hunter2<b>']")
        _, answer = self.keystore.request("GET", "secret/data/webapp/config", token=root)
        self.assertEqual(answer["data"]["data"], {"password": "hunter2<b>", "user": "anna"})

        self.press("Edit")
        self.fill("Data, as JSON", '{"password": "second"}')
        self.press("Save")
        self.wait_for("//section//td[.='2']")
        self.wait_for("//section//tr[td[.='1']]//button[.='Look']").click()
        self.wait_for("//td[.='user']")

        self.open("/secrets/secret/webapp/")
        self.wait_for("//td/a[.='config']")
        self.open("/policies/default")
        self.title("default")
        self.wait_for("//textarea")

        self.press("Sign out")
        self.title("Sign in")
        self.assertNotIn(root, self.browser.execute_script(
            "return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"))
        wrong = [line["message"] for line in self.browser.get_log("browser")
                 if line["level"] == "SEVERE" and "403" not in line["message"]
                 and "404" not in line["message"]]
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
