package main

// Line plots as SVG: what two kinds of pictures need, and no more.

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// curve is a series of points.
type curve struct {
	name string
	x, y []float64
	step bool // y changes at once at each x
}

// plot is a picture.
type plot struct {
	title, xName, yName string
	logX, logY          bool
	curves              []curve
}

// Colours that people with any kind of colour vision can tell apart (Okabe and Ito), and dashes for
// more curves than these.
var plotColours = []string{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"}

const plotWidth, plotHeight, plotLeft, plotTop, plotLegend = 620, 320, 64, 34, 340

// axis maps values to pixels.
type axis struct {
	low, high float64
	log       bool
	from, to  float64
}

func (a axis) at(v float64) float64 {
	if a.log {
		return a.from + (math.Log10(v)-math.Log10(a.low))/(math.Log10(a.high)-math.Log10(a.low))*(a.to-a.from)
	}
	return a.from + (v-a.low)/(a.high-a.low)*(a.to-a.from)
}

// newAxis covers values: a logarithmic one whole decades or their 2 and 5, a linear one from 0.
func newAxis(values []float64, log bool, from, to float64) axis {
	a := axis{log: log, from: from, to: to, low: math.Inf(1), high: math.Inf(-1)}
	for _, v := range values {
		if !log || v > 0 {
			a.low, a.high = min(a.low, v), max(a.high, v)
		}
	}
	if math.IsInf(a.low, 0) {
		a.low, a.high = 1, 10
	}
	if log {
		a.low, a.high = nice(a.low, false), nice(a.high, true)
		if a.low == a.high {
			a.high *= 10
		}
		return a
	}
	a.low = min(a.low, 0)
	a.high = nice(max(a.high, 1e-9), true)
	return a
}

// nice rounds to 1, 2 or 5 times a power of ten.
func nice(v float64, up bool) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	steps := []float64{1, 2, 5, 10}
	if up {
		for _, s := range steps {
			if s*p >= v*0.999999 {
				return s * p
			}
		}
	}
	for _, s := range slices.Backward(steps) {
		if s*p <= v*1.000001 {
			return s * p
		}
	}
	return p
}

func (a axis) ticks() (t []float64) {
	if !a.log {
		for i := range 6 {
			t = append(t, a.low+(a.high-a.low)*float64(i)/5)
		}
		return t
	}
	decades := math.Log10(a.high / a.low)
	for p := math.Pow(10, math.Floor(math.Log10(a.low))); p <= a.high*1.0001; p *= 10 {
		for _, m := range []float64{1, 2, 5} {
			if v := m * p; v >= a.low*0.9999 && v <= a.high*1.0001 && (m == 1 || decades < 3) {
				t = append(t, v)
			}
		}
	}
	return t
}

func (p plot) svg() string {
	var xs, ys []float64
	for _, c := range p.curves {
		xs, ys = append(xs, c.x...), append(ys, c.y...)
	}
	x := newAxis(xs, p.logX, plotLeft, plotLeft+plotWidth)
	y := newAxis(ys, p.logY, plotTop+plotHeight, plotTop)
	var b strings.Builder
	height := plotTop + plotHeight + 50
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		plotLeft+plotWidth+plotLegend, max(height, plotTop+20*len(p.curves)+20))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	fmt.Fprintf(&b, `<text x="%d" y="20" font-size="14">%s</text>`+"\n", plotLeft, html.EscapeString(p.title))
	for _, v := range x.ticks() {
		fmt.Fprintf(&b, `<path d="M%.1f %d v%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x.at(v), plotTop, plotHeight, x.at(v), plotTop+plotHeight+16, tick(v))
	}
	for _, v := range y.ticks() {
		fmt.Fprintf(&b, `<path d="M%d %.1f h%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			plotLeft, y.at(v), plotWidth, plotLeft-6, y.at(v)+4, tick(v))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", plotLeft+plotWidth/2,
		plotTop+plotHeight+36, html.EscapeString(p.xName))
	fmt.Fprintf(&b, `<text transform="translate(14 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n",
		plotTop+plotHeight/2, html.EscapeString(p.yName))
	for i, c := range p.curves {
		style := fmt.Sprintf(`stroke="%s" stroke-width="2" fill="none"`, plotColours[i%len(plotColours)])
		if i >= len(plotColours) {
			style += ` stroke-dasharray="5 3"`
		}
		fmt.Fprintf(&b, `<path %s d="%s"/>`+"\n", style, c.path(x, y))
		at := plotTop + 10 + 20*i
		fmt.Fprintf(&b, `<path %s d="M%d %d h24"/><text x="%d" y="%d">%s</text>`+"\n", style, plotLeft+plotWidth+12, at,
			plotLeft+plotWidth+42, at+4, html.EscapeString(c.name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (c curve) path(x, y axis) string {
	var b strings.Builder
	for i := range c.x {
		switch {
		case i == 0:
			fmt.Fprintf(&b, "M%.1f %.1f", x.at(c.x[i]), y.at(c.y[i]))
		case c.step:
			fmt.Fprintf(&b, "H%.1fV%.1f", x.at(c.x[i]), y.at(c.y[i]))
		default:
			fmt.Fprintf(&b, "L%.1f %.1f", x.at(c.x[i]), y.at(c.y[i]))
		}
	}
	return b.String()
}

func tick(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", v), "0"), ".")
}

// distribution is the share of samples that are not above x. Lower bounds are never reached: the
// curve stays below 100 %.
func distribution(name string, c *cell) curve {
	d := curve{name: name, step: true}
	if c == nil {
		return d
	}
	n := len(c.values)
	for i, v := range c.values {
		if i == 0 {
			d.x, d.y = append(d.x, v), append(d.y, 0)
		}
		if i < n-c.censored {
			d.x, d.y = append(d.x, v), append(d.y, 100*float64(i+1)/float64(n))
		}
	}
	return d
}
