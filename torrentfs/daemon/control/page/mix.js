// Where bytes came from, as a stacked bar with a legend.
import { h, say } from './dom.js'
import { size } from './format.js'

export const KINDS = [
  ['webrtc', 'WebRTC'], ['tcp', 'TCP'], ['utp', 'uTP'], ['web seed', 'HTTP'], ['other', 'other']
]
const KNOWN = new Set(KINDS.map(([kind]) => kind))
const style = kind => kind.replace(' ', '-')

// [kind, label, bytes] of those that are not nothing.
export function shares (received) {
  const sums = new Map()
  for (const [kind, bytes] of Object.entries(received)) {
    const known = KNOWN.has(kind) ? kind : 'other'
    sums.set(known, (sums.get(known) ?? 0) + bytes)
  }
  return KINDS.filter(([kind]) => sums.get(kind)).map(([kind, label]) => [kind, label, sums.get(kind)])
}

export class Mix {
  constructor () {
    this.element = h('div.mix', { role: 'img' })
    this.parts = new Map()
  }

  update (received) {
    const found = shares(received)
    const total = found.reduce((sum, [, , bytes]) => sum + bytes, 0)
    this.element.hidden = !total
    for (const [kind] of KINDS) {
      const bytes = found.find(([name]) => name === kind)?.[2] ?? 0
      let part = this.parts.get(kind)
      if (!part && bytes) this.parts.set(kind, part = this.element.appendChild(h(`span.kind-${style(kind)}`)))
      if (part) part.style.flexGrow = String(total ? bytes / total : 0)
    }
    const words = found.map(([, label, bytes]) => `${label} ${Math.round(100 * bytes / total)} %`)
    this.element.setAttribute('aria-label', `Received from: ${words.join(', ') || 'nobody yet'}`)
  }
}

export class Legend {
  constructor () {
    this.element = h('ul.legend', { 'aria-label': 'Received, by kind of source' })
    this.amounts = new Map()
    for (const [kind, label] of KINDS) {
      const amount = h('span.quiet')
      const item = h('li', {}, h(`span.swatch.kind-${style(kind)}`), `${label} `, amount)
      this.amounts.set(kind, [item, amount])
      this.element.append(item)
    }
  }

  update (received) {
    const found = new Map(shares(received).map(([kind, , bytes]) => [kind, bytes]))
    for (const [kind, [item, amount]] of this.amounts) {
      item.hidden = kind === 'other' && !found.has(kind)
      say(amount, found.has(kind) ? size(found.get(kind)) : '0')
    }
  }
}
