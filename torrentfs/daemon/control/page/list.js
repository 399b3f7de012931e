// The torrents of the mount.
import { confirmRemove, name, setPaused } from './actions.js'
import { makeAddForm } from './add.js'
import { clean, h, keepRows, say } from './dom.js'
import { count, percent, rate, size } from './format.js'
import { Legend, Mix } from './mix.js'

export const STATES = {
  metadata: 'looking for metadata',
  failed: 'failed',
  asleep: 'asleep',
  queued: 'waiting for its turn',
  ready: 'ready',
  fetching: 'fetching',
  stalled: 'stalled',
  complete: 'complete',
  paused: 'paused'
}

export class State {
  constructor () { this.element = h('span.state') }

  update (torrent) {
    this.element.dataset.state = torrent.state
    say(this.element, STATES[torrent.state] ?? clean(torrent.state))
  }
}

// The progress bar of a torrent, with words beside.
export class Progress {
  constructor () {
    this.bar = h('progress', { max: 1 })
    this.words = h('span.quiet')
    this.element = h('div.progress', {}, this.bar, this.words)
  }

  update (torrent) {
    this.bar.value = torrent.progress
    this.bar.setAttribute('aria-label', `Cached of ${name(torrent)}`)
    say(this.words, torrent.size
      ? `${percent(torrent.progress)} of ${size(torrent.size)}`
      : 'size not known yet')
  }
}

export class Pause {
  constructor (torrent) {
    this.torrent = torrent
    this.element = h('button', {
      type: 'button', onclick: () => setPaused(this.torrent, this.torrent.state !== 'paused')
    })
  }

  update (torrent) {
    this.torrent = torrent
    const word = torrent.state === 'paused' ? 'Resume' : 'Pause'
    say(this.element, word)
    this.element.setAttribute('aria-label', `${word} ${name(torrent)}`)
  }
}

export function rates (torrent) {
  const parts = [`↓ ${rate(torrent.download_rate)}`, `↑ ${rate(torrent.upload_rate)}`, count(torrent.peers, 'peer')]
  if (torrent.blocked_reads) parts.push(`${count(torrent.blocked_reads, 'read')} waiting`)
  return parts.join(' · ')
}

class Row {
  constructor (torrent) {
    this.torrent = torrent
    this.link = h('a', { href: `#/torrent/${torrent.key}` })
    this.parts = [this.state = new State(), this.progress = new Progress(), this.mix = new Mix(), this.pause = new Pause(torrent)]
    this.rates = h('span.rates')
    this.trouble = h('p.bad')
    this.remove = h('button', { type: 'button', onclick: () => confirmRemove(this.torrent) }, 'Remove')
    this.element = h('li.torrent', {},
      h('h2', {}, this.link), this.state.element,
      this.progress.element, this.rates, h('div.row.tight', {}, this.pause.element, this.remove),
      this.mix.element, this.trouble)
  }

  update (torrent) {
    if (torrent === this.torrent && this.drawn) return
    this.drawn = true
    this.torrent = torrent
    say(this.link, name(torrent))
    this.link.dir = 'auto'
    this.remove.setAttribute('aria-label', `Remove ${name(torrent)}`)
    for (const part of [this.state, this.progress, this.pause]) part.update(torrent)
    this.mix.update(torrent.received)
    say(this.rates, rates(torrent))
    say(this.trouble, clean(torrent.trouble))
    this.trouble.hidden = !torrent.trouble
  }
}

const MANY = 8 // from so many on there is something to search in

export class List {
  constructor () {
    this.rows = new Map()
    this.items = h('ul.torrents', { 'aria-label': 'Torrents' })
    this.legend = new Legend()
    this.filter = h('input', { id: 'filter', type: 'search', autocomplete: 'off', oninput: () => this.draw() })
    this.search = h('div.field', {}, h('label', { for: 'filter' }, 'Show only'), this.filter)
    this.empty = h('p.empty')
    this.heading = h('h1', { tabIndex: -1 }, 'Torrents')
    this.element = h('div', {},
      this.heading, makeAddForm(), this.search, this.empty, this.items, this.legend.element)
  }

  update (mount) {
    this.mount = mount
    this.draw()
  }

  draw () {
    const { torrents, status } = this.mount
    const words = this.filter.value.trim().toLowerCase()
    const fits = torrent => !words || torrent.name.toLowerCase().includes(words) ||
      torrent.state.includes(words) || torrent.key.startsWith(words) || (torrent.path ?? '').toLowerCase().includes(words)
    const shown = [...torrents.values()].filter(fits)
    keepRows(this.items, this.rows, shown, torrent => torrent.key, torrent => new Row(torrent))
    this.search.hidden = torrents.size < MANY && !words
    this.items.hidden = !shown.length
    this.legend.element.hidden = !torrents.size
    this.legend.update(status.received)
    this.empty.hidden = shown.length > 0
    say(this.empty, torrents.size
      ? 'No torrent is like that.'
      : 'There is no torrent in this mount yet. Add one above: its files appear at once, and are fetched as they are read.')
  }

  close () {}
}
