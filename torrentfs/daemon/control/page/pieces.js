// The pieces of a torrent on a canvas: here, partly here, wanted, missing, and where it is read.
import { h, say } from './dom.js'
import { count } from './format.js'

const HEIGHT = 150
const SMALLEST = 6
const LARGEST = 16

// The map of the API as an array: how much of each part is here (0 to 1), and its letter.
export function parts (map) {
  if (map.buckets) return map.buckets.map((percent, n) => ({ have: percent / 100, state: map.marks[n] }))
  const found = []
  for (const [, length, state] of (map.runs ?? '').matchAll(/(\d+)([hmpw])/g)) {
    for (let n = Number(length); n > 0; n--) found.push({ have: state === 'h' ? 1 : 0, state })
  }
  return found
}

// Fewer parts, each of several.
export function fewer (all, most) {
  if (all.length <= most) return all
  return Array.from({ length: most }, (_, n) => {
    const some = all.slice(Math.floor(n * all.length / most), Math.floor((n + 1) * all.length / most))
    const have = some.reduce((sum, part) => sum + part.have, 0) / some.length
    const state = ['w', 'p'].find(letter => some.some(part => part.state === letter)) ?? (have === 1 ? 'h' : 'm')
    return { have, state }
  })
}

const LEGEND = [['have', 'here'], ['partial', 'partly here'], ['wanted', 'wanted now'], ['missing', 'missing'], ['head', 'read here']]

export class PieceMap {
  constructor () {
    this.canvas = h('canvas', { role: 'img' })
    this.words = h('span')
    const legend = this.legend = h('ul.legend', { 'aria-label': 'Colours of the piece map' },
      ...LEGEND.map(([name, label]) => h('li', {}, h(`span.swatch.piece-${name}`), label)))
    this.element = h('figure.pieces', {}, this.canvas, h('figcaption', {}, this.words, legend))
    this.map = null
    this.observer = new ResizeObserver(() => this.draw())
    this.observer.observe(this.element)
    this.scheme = matchMedia('(prefers-color-scheme: dark)')
    this.redraw = () => this.draw()
    this.scheme.addEventListener('change', this.redraw)
  }

  close () {
    this.observer.disconnect()
    this.scheme.removeEventListener('change', this.redraw)
  }

  update (map) {
    this.map = map
    this.canvas.hidden = this.legend.hidden = !map
    if (!map) {
      say(this.words, 'Asleep: nothing of it is open. The map comes when it is read.')
      return
    }
    const words = [`${map.have.toLocaleString()} of ${count(map.pieces, 'piece')} here`]
    if (map.wanted) words.push(`${map.wanted.toLocaleString()} wanted now`)
    if (map.partial) words.push(`${map.partial.toLocaleString()} partly here`)
    if (map.heads.length) words.push(`read at ${map.heads.slice(0, 4).map(head => head.piece).join(', ')}`)
    say(this.words, words.join(' · '))
    this.canvas.setAttribute('aria-label', `Piece map: ${words.join(', ')}`)
    this.draw()
  }

  draw () {
    const width = Math.floor(this.element.clientWidth)
    if (!this.map || width < 20) return
    let all = parts(this.map)
    let cell = LARGEST
    const fits = edge => Math.floor(width / edge) * Math.floor(HEIGHT / edge)
    while (cell > SMALLEST && fits(cell) < all.length) cell--
    all = fewer(all, fits(cell))
    const columns = Math.max(1, Math.floor(width / cell))
    const height = Math.max(1, Math.ceil(all.length / columns)) * cell
    const ratio = devicePixelRatio || 1
    this.canvas.width = width * ratio
    this.canvas.height = height * ratio
    this.canvas.style.width = `${width}px`
    this.canvas.style.height = `${height}px`
    const pen = this.canvas.getContext('2d')
    const styles = getComputedStyle(this.element)
    const colour = name => styles.getPropertyValue(`--piece-${name}`).trim()
    pen.scale(ratio, ratio)
    const box = n => [(n % columns) * cell, Math.floor(n / columns) * cell, cell - 1, cell - 1]
    all.forEach((part, n) => {
      pen.fillStyle = colour('missing')
      pen.fillRect(...box(n))
      if (part.state === 'h' || part.have > 0) {
        pen.globalAlpha = part.state === 'h' ? 1 : 0.2 + 0.7 * part.have
        pen.fillStyle = colour('have')
        pen.fillRect(...box(n))
        pen.globalAlpha = 1
      }
      if (part.state === 'p' || part.state === 'w') {
        const [x, y, w, high] = box(n)
        pen.fillStyle = colour(part.state === 'p' ? 'partial' : 'wanted')
        if (part.state === 'p') pen.fillRect(x, y + high / 2, w, high / 2)
        else pen.fillRect(x, y, w, high)
      }
    })
    const at = piece => Math.min(all.length - 1, Math.floor(piece * all.length / this.map.pieces))
    pen.strokeStyle = colour('head')
    for (const head of this.map.heads) {
      if (head.piece >= this.map.pieces) continue
      const [x, y, w, high] = box(at(head.piece))
      pen.lineWidth = 2
      pen.strokeRect(x, y, w, high)
      pen.lineWidth = 1
      for (let n = at(head.piece) + 1; n <= at(head.piece + head.window) && n < all.length; n++) {
        const [left, top, wide, tall] = box(n)
        pen.beginPath()
        pen.moveTo(left, top + tall - 0.5)
        pen.lineTo(left + wide, top + tall - 0.5)
        pen.stroke()
      }
    }
  }
}
