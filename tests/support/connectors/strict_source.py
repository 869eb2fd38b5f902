#!/usr/bin/env python3
"""The scripted connector with a specification that has one of everything, for wrong configurations."""

from __future__ import annotations

import sys

import scripted_source

SPEC = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Strict source",
    "type": "object",
    "required": ["scenario", "credentials", "start_date"],
    "additionalProperties": True,
    "properties": {
        "scenario": {
            "type": "string",
            "title": "Scenario",
            "description": "Path of the scenario.",
            "order": 0,
        },
        "start_date": {
            "type": "string",
            "title": "Start date",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
            "pattern_descriptor": "YYYY-MM-DD",
            "description": "Nothing <b>older</b> is read.",
            "order": 2,
        },
        "page_size": {"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
        "region": {"type": "string", "enum": ["eu", "us"], "default": "eu"},
        "repositories": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "verify": {"type": "boolean"},
        "ratio": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "streams": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "globs": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
        "credentials": {
            "type": "object",
            "title": "Authentication",
            "order": 1,
            "oneOf": [
                {
                    "title": "API key",
                    "required": ["auth_type", "api_key"],
                    "properties": {
                        "auth_type": {"type": "string", "const": "key"},
                        "api_key": {"type": "string", "title": "API key", "airbyte_secret": True},
                    },
                },
                {
                    "title": "OAuth",
                    "required": ["auth_type", "client_id", "client_secret"],
                    "properties": {
                        "auth_type": {"type": "string", "const": "oauth"},
                        "client_id": {"type": "string"},
                        "client_secret": {"type": "string", "airbyte_secret": True},
                        "refresh_token": {"type": "string", "airbyte_secret": True},
                    },
                },
            ],
        },
        "tunnel": {
            "type": "object",
            "oneOf": [
                {"title": "By host", "required": ["host"], "properties": {"host": {"type": "string"}}},
                {"title": "By socket", "required": ["socket"], "properties": {"socket": {"type": "string"}}},
            ],
        },
    },
}

if __name__ == "__main__":
    scripted_source.DEFAULT_SPEC = SPEC
    scripted_source.main(sys.argv[1:])
