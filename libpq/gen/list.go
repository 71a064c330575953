package main

// functions.list: a line a function.

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// function is a line of the list.
type function struct {
	class, ret, name, params string
	without                  string   // what it gives where the real library does not have it
	args                     []string // names of the parameters, in order
	since                    int      // major version
}

// What the oldest supported libpq has, no libpq lacks.
const oldest = 13

var prototype = regexp.MustCompile(`^(.*?[\s*])([A-Za-z_][A-Za-z0-9_]*)\((.*)\)$`)

var classes = regexp.MustCompile(`^(pass|conn|io|result|own|data)(=[-A-Z_a-z0-9]+)?$`)

func readList(path string) ([]function, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var list []function
	seen := map[string]int{}
	scanner := bufio.NewScanner(file)
	for number := 1; scanner.Scan(); number++ {
		text := strings.TrimSpace(scanner.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		fields := strings.Fields(text)
		if len(fields) < 3 || !classes.MatchString(fields[0]) {
			return nil, fmt.Errorf("%s:%d: expected: class since prototype", path, number)
		}
		f := function{}
		f.class, f.without, _ = strings.Cut(fields[0], "=")
		if f.since, err = strconv.Atoi(fields[1]); err != nil {
			return nil, fmt.Errorf("%s:%d: not a version: %s", path, number, fields[1])
		}
		if f.without == "" {
			f.without = "0"
		}
		declaration := strings.Join(fields[2:], " ")
		if f.class == "data" {
			f.name = declaration
		} else {
			m := prototype.FindStringSubmatch(declaration)
			if m == nil {
				return nil, fmt.Errorf("%s:%d: not a prototype: %s", path, number, declaration)
			}
			f.ret, f.name, f.params = strings.TrimSpace(m[1]), m[2], m[3]
			if f.params != "void" {
				for _, p := range strings.Split(f.params, ",") {
					p = strings.TrimSpace(p)
					f.args = append(f.args, p[strings.LastIndexAny(p, " *")+1:])
				}
			}
		}
		if other, ok := seen[f.name]; ok {
			return nil, fmt.Errorf("%s:%d: %s is in line %d already", path, number, f.name, other)
		}
		seen[f.name] = number
		list = append(list, f)
	}
	return list, scanner.Err()
}
