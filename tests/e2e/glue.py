"""Glue's API as plain HTTP: what is registered, as any client of the catalog sees it."""

import json
import urllib.error
import urllib.request


class GlueError(Exception):
    """An answer that is an error; `code` is AWS's name for it."""

    def __init__(self, action, code, message):
        super().__init__(f"{action}: {code}: {message}")
        self.code = code


class Glue:
    def __init__(self, endpoint, region="us-east-1"):
        self.endpoint, self.region = endpoint, region

    def call(self, action, **arguments):
        """One request. The test server looks at the name of the service in a signature, not at the signature."""
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"AWSGlue.{action}",
                   "Authorization": f"AWS4-HMAC-SHA256 Credential=tributary/20240101/{self.region}/glue/aws4_request, SignedHeaders=host, Signature=0"}
        request = urllib.request.Request(self.endpoint, json.dumps(arguments).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            body = error.read()
            try:
                said = json.loads(body)
            except ValueError:
                said = {"message": body[:300]}
            code = said.get("__type", str(error.code)).split("#")[-1]
            raise GlueError(action, code, said.get("message", said.get("Message"))) from None

    def pages(self, action, key, **arguments):
        """All items of a list that comes in pages."""
        found = []
        while True:
            answer = self.call(action, **arguments)
            found += answer[key]
            if not answer.get("NextToken"):
                return found
            arguments["NextToken"] = answer["NextToken"]

    def table(self, database, name):
        """A table's definition; None where there is none."""
        try:
            return self.call("GetTable", DatabaseName=database, Name=name)["Table"]
        except GlueError as error:
            if error.code == "EntityNotFoundException":
                return None
            raise

    def tables(self, database):
        try:
            return {table["Name"]: table for table in self.pages("GetTables", "TableList", DatabaseName=database)}
        except GlueError as error:
            if error.code == "EntityNotFoundException":
                return {}
            raise

    def partitions(self, database, table):
        """By its values, what each partition is."""
        found = self.pages("GetPartitions", "Partitions", DatabaseName=database, TableName=table)
        return {tuple(partition["Values"]): partition for partition in found}

    def crawler(self, name):
        return self.call("GetCrawler", Name=name)["Crawler"]
