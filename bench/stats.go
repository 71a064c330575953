package main

// Medians and spreads of samples.

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// cell is all samples of one series under one condition.
type cell struct {
	values   []float64 // sorted
	censored int       // how many are lower bounds
	unit     string
}

// find returns the cell of a figure, nil if nothing was measured.
func (r *results) find(figure, what, series, when string) *cell {
	c := &cell{}
	for _, s := range r.samples {
		if s.figure == figure && s.what == what && s.series == series && s.when == when {
			c.values = append(c.values, s.value)
			c.unit = s.unit
			if s.censored {
				c.censored++
			}
		}
	}
	if len(c.values) == 0 {
		return nil
	}
	slices.Sort(c.values)
	return c
}

// names returns the different values of a field, in the order of their first samples.
func (r *results) names(figure, what string, field func(sample) string) (found []string) {
	for _, s := range r.samples {
		if s.figure == figure && s.what == what && !slices.Contains(found, field(s)) {
			found = append(found, field(s))
		}
	}
	return found
}

// quantile interpolates between the samples.
func (c *cell) quantile(q float64) float64 {
	if c == nil {
		return math.NaN()
	}
	at := q * float64(len(c.values)-1)
	i := int(at)
	if i+1 >= len(c.values) {
		return c.values[len(c.values)-1]
	}
	return c.values[i] + (at-float64(i))*(c.values[i+1]-c.values[i])
}

func (c *cell) median() float64 { return c.quantile(0.5) }

// medianWithin is the interval between two of the values that holds the median of what they are
// taken from with a probability of 95 %, whatever its distribution: half of that lies on either
// side, as heads and tails.
func (c *cell) medianWithin() (least, most float64) {
	if c == nil {
		return math.NaN(), math.NaN()
	}
	n := len(c.values)
	k, below, exactly := 0, 0.0, math.Pow(0.5, float64(n)) // k of n are heads
	for ; k < n/2; k++ {
		if below+exactly > 0.025 {
			break
		}
		below += exactly
		exactly *= float64(n-k) / float64(k+1)
	}
	return c.values[max(k-1, 0)], c.values[min(n-k, n-1)]
}

// confidence writes the median and that interval.
func (c *cell) confidence() string {
	least, most := c.medianWithin()
	return fmt.Sprintf("%.3f (%.3f to %.3f)", c.median(), least, most)
}

func (c *cell) max() float64 { return c.quantile(1) }

// over tells whether quantile q is a lower bound. Lower bounds are the largest values, as an
// observation ends for all at the same time.
func (c *cell) over(q float64) bool {
	return c.censored > 0 && q*float64(len(c.values)-1) > float64(len(c.values)-c.censored-1)
}

// at writes a quantile.
func (c *cell) at(q float64) string {
	if c == nil {
		return "-"
	}
	if c.over(q) {
		return "> " + number(c.quantile(q))
	}
	return number(c.quantile(q))
}

// spread writes the median, and the range that holds the middle 90 %.
func (c *cell) spread() string {
	if c == nil {
		return "-"
	}
	if len(c.values) == 1 || c.over(0.5) {
		return c.at(0.5)
	}
	return fmt.Sprintf("%s (%s to %s)", c.at(0.5), c.at(0.05), c.at(0.95))
}

// number writes three significant digits, or whole numbers with thousands apart.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a >= 1000:
		return thousands(int64(math.Round(v)))
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func thousands(n int64) string {
	s := fmt.Sprint(n)
	var parts []string
	for len(s) > 3 && s[len(s)-4] != '-' {
		parts = append([]string{s[len(s)-3:]}, parts...)
		s = s[:len(s)-3]
	}
	return strings.Join(append([]string{s}, parts...), " ")
}
