// Package rules has no code: its test holds who may import and include what in this module, each
// rule with its reason. It reads source files only, and blocks on nothing else.
package rules
