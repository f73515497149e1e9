"""A Lambda function for an action group, in the form of Pika's weather sample: reads an event on stdin, writes its answer on stdout."""

import json
import sys

WEATHER = {"Oslo": {"temperature_c": 4, "sky": "rain"}}


def handler(event, context):
    arguments = {p["name"]: p["value"] for p in event["parameters"]}
    # Bedrock takes five parameters at most, so the others come as one JSON text.
    arguments.update(json.loads(arguments.pop("jsonParams", "{}")))
    attributes = dict(event["sessionAttributes"])
    attributes["lastLocation"] = arguments["location"]
    found = WEATHER.get(arguments["location"])
    response = {"responseBody": {"TEXT": {"body": json.dumps(found) if found else "unknown location"}}}
    if not found:
        response["responseState"] = "REPROMPT"
    return {
        "messageVersion": event["messageVersion"],
        "response": {
            "actionGroup": event["actionGroup"],
            "function": event["function"],
            "functionResponse": response,
        },
        "sessionAttributes": attributes,
    }


json.dump(handler(json.load(sys.stdin), None), sys.stdout)
