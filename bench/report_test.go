package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func cellOf(censored int, values ...float64) *cell { return &cell{values: values, censored: censored} }

func TestStatistics(t *testing.T) {
	c := cellOf(0, 1, 2, 3, 4)
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 0.99: 3.97, 1: 4} {
		if got := c.quantile(q); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := cellOf(0, 7).spread(); got != "7.00" {
		t.Errorf("one value: %q", got)
	}
	var none *cell
	if got := none.spread() + none.at(0.5); got != "--" || !math.IsNaN(none.median()) {
		t.Errorf("no value: %q", got)
	}
}

// Lower bounds are said to be lower bounds, and only they.
func TestCensored(t *testing.T) {
	for _, c := range []struct {
		cell *cell
		q    float64
		want string
	}{
		{cellOf(1, 1, 2, 60), 0.5, "2.00"},
		{cellOf(1, 1, 2, 60), 0.99, "> 58.8"},
		{cellOf(2, 1, 60, 60), 0.5, "> 60.0"},
		{cellOf(3, 60, 60, 60), 0, "> 60.0"},
	} {
		if got := c.cell.at(c.q); got != c.want {
			t.Errorf("quantile %v of %v (%d lower bounds): %q, want %q", c.q, c.cell.values, c.cell.censored, got,
				c.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0.1234: "0.123", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234: "1 234",
		1234567: "1 234 567", -0.5: "-0.500", -12345: "-12 345"} {
		if got := number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestAxis(t *testing.T) {
	a := newAxis([]float64{0.3, 4000}, true, 0, 100)
	if a.low != 0.2 || a.high != 5000 || a.at(a.low) != 0 || math.Abs(a.at(a.high)-100) > 1e-9 {
		t.Errorf("%+v", a)
	}
	for _, v := range a.ticks() {
		if v < a.low*0.999 || v > a.high*1.001 {
			t.Errorf("mark %v outside of %v to %v", v, a.low, a.high)
		}
	}
	if a := newAxis([]float64{3, 70}, false, 0, 100); a.low != 0 || a.high != 100 {
		t.Errorf("%+v", a)
	}
	if a := newAxis(nil, true, 0, 100); math.IsNaN(a.at(5)) {
		t.Error("no values, no numbers")
	}
}

// What is lost stays below 100 %.
func TestDistribution(t *testing.T) {
	d := distribution("x", cellOf(2, 1, 2, 60, 60))
	if last := d.y[len(d.y)-1]; last != 50 || d.y[0] != 0 {
		t.Errorf("%+v", d)
	}
}

func TestReport(t *testing.T) {
	out := t.TempDir()
	r := &results{}
	r.samples = []sample{{figure: "f", what: "time", series: "ours <&>", when: "now", unit: "ms", value: 2},
		{figure: "f", what: "time", series: "theirs, \"tuned\"", when: "now", unit: "ms", value: 60, censored: true},
		{figure: "other", what: "time", value: 77}}
	f := figure{key: "f", title: "A figure", show: func(r *results, p *page) {
		p.Table([]string{"", "time"}, [][]string{{"ours", r.find("f", "time", "ours <&>", "now").spread()}})
		p.Plot("times", "times", plot{title: "a < b", curves: []curve{distribution("ours <&>",
			r.find("f", "time", "ours <&>", "now"))}}.svg())
		p.Target("fast", "2 ms", true)
		p.Target("faster", "2 ms", false)
	}}
	rep := report{root: out, out: out, figures: []figure{f}, results: r}
	if err := rep.write(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(out, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## A figure", "| ours | 2.00 |", "| A figure | fast | 2 ms | yes |",
		"| A figure | faster | 2 ms | **no** |", "(benchmarks/f-times.svg)"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	data, err := os.ReadFile(filepath.Join(out, "build", "bench", "f.csv"))
	if want := "figure,what,series,condition,unit,value,at_least\nf,time,ours <&>,now,ms,2,false\nf,time,\"theirs, \"\"tuned\"\"\",now,ms,60,true\n"; err != nil || string(data) != want {
		t.Errorf("%v, %s", err, data)
	}
	svg, err := os.Open(filepath.Join(out, "benchmarks", "f-times.svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer svg.Close()
	for d := xml.NewDecoder(svg); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is not well-formed: %v", err)
		}
	}
}

// The intervals are those of tables of the sign test.
func TestMedianWithin(t *testing.T) {
	for n, want := range map[int][2]float64{1: {1, 1}, 5: {1, 5}, 6: {1, 6}, 10: {2, 9}, 20: {6, 15}, 30: {10, 21}} {
		c := &cell{}
		for i := range n {
			c.values = append(c.values, float64(i+1))
		}
		if least, most := c.medianWithin(); least != want[0] || most != want[1] {
			t.Errorf("of %d: %v to %v; want %v", n, least, most, want)
		}
	}
}
