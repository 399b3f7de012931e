// One torrent: pieces, reads that wait and why, files, peers, trackers.
import { confirmRemove, evict, name, setPinned } from './actions.js'
import { ask, of } from './api.js'
import { clean, h, say } from './dom.js'
import { count, percent, rate, seconds, size } from './format.js'
import { Pause, Progress, State, rates } from './list.js'
import { attempt } from './messages.js'
import { Legend, Mix } from './mix.js'
import { PieceMap } from './pieces.js'
import { play, playable } from './player.js'
import { Table } from './tables.js'

const FILES = 200 // so many at a time
const MOST_FILES = 10000 // as many as the API tells at once, and a page is good for
const AGAIN = 3000 // milliseconds between two looks at what no event tells
const CACHE_AGAIN = 15000 // which is asked of the disk
const LONG = 3 // seconds that a read waits until it is conspicuous

const KINDS = { tcp: 'TCP', utp: 'uTP', webrtc: 'WebRTC', 'web seed': 'HTTP' }

const section = (title, id, ...parts) =>
  h('section', { 'aria-labelledby': id }, h('h2', { id }, title), ...parts)

export class Detail {
  constructor (key) {
    this.key = key
    this.shown = FILES
    this.heading = h('h1', { tabIndex: -1, dir: 'auto' })
    this.state = new State()
    this.progress = new Progress()
    this.mix = new Mix()
    this.legend = new Legend()
    this.pause = new Pause({ key })
    this.pieces = new PieceMap()
    this.rates = h('p.rates')
    this.trouble = h('p.bad')
    this.facts = h('dl.facts')
    this.where = h('p.quiet')
    this.kept = { whole: false, total: 0, pieces: 0, missing: 0, trouble: '' }
    this.listed = []
    this.pin = h('button', { type: 'button', hidden: true, onclick: () => this.togglePin(this.key, this.isPinned()) })
    this.evict = h('button', { type: 'button', hidden: true, onclick: () => this.drop() }, 'Drop from cache')
    this.buttons = h('div.row', {}, this.pause.element, this.pin, this.evict,
      h('button.danger', { type: 'button', onclick: () => confirmRemove(this.torrent) }, 'Remove…'))
    this.reads = h('ul.reads', { 'aria-live': 'polite' })
    this.noReads = h('p.quiet', {}, 'No read waits.')
    this.files = new Table('Files', [
      ['Name', file => clean(this.inside(file.path))],
      ['Size', file => size(file.size)],
      ['Here', file => file.have === null ? '–' : file.size ? percent(file.have / file.size) : percent(1)],
      ['Open', null]
    ], file => file.index, { cell: (cell, file) => this.openers(cell, file) })
    this.more = h('button', { type: 'button', onclick: () => { this.shown = Math.min(MOST_FILES, this.shown + FILES); this.look() } }, 'Show more files')
    this.rest = h('p.quiet', { hidden: true })
    this.peers = new Table('Peers and web seeds', [
      ['Address', peer => clean(peer.address)],
      ['By', peer => KINDS[peer.kind] ?? clean(peer.kind)],
      ['Client', peer => clean(peer.client) || '–'],
      ['Has', peer => percent(peer.progress)],
      ['Down', peer => rate(peer.download_rate)],
      ['Up', peer => rate(peer.upload_rate)],
      ['Flags', peer => clean(peer.flags) || '–']
    ], peer => `${peer.kind} ${peer.address}`)
    this.trackers = new Table('Trackers', [
      ['Tracker', tracker => clean(tracker.url)],
      ['Seeders', tracker => tracker.seeders ?? '–'],
      ['Leechers', tracker => tracker.leechers ?? '–'],
      ['Next', tracker => tracker.next_announce === null ? '–' : `in ${seconds(tracker.next_announce)}`],
      ['Says', tracker => clean(tracker.error || tracker.warning) || (tracker.announces ? 'fine' : 'not asked yet')]
    ], tracker => tracker.url)
    this.element = h('article', {},
      h('p', {}, h('a', { href: '#/' }, '← All torrents')),
      this.heading, this.state.element, this.buttons,
      this.progress.element, this.rates, this.trouble, this.where,
      section('Reads that wait', 'reads-title', this.noReads, this.reads),
      section('Pieces', 'pieces-title', this.pieces.element),
      section('Received', 'mix-title', this.mix.element, this.legend.element, this.facts),
      section('Files', 'files-title', this.files.element, this.more, this.rest),
      section('Peers', 'peers-title', this.peers.element),
      section('Trackers', 'trackers-title', this.trackers.element))
    this.peers.update([], 'Nobody is connected.')
  }

  // A path below the torrent's own directory.
  inside (path) {
    const root = this.torrent.path
    return root && path.startsWith(root + '/') ? path.slice(root.length + 1) : path
  }

  openers (cell, file) {
    const label = clean(this.inside(file.path))
    const play_ = playable(file.path) && h('button', {
      type: 'button', 'aria-label': `Play ${label}`, onclick: () => { this.player = play(file, this.mount.status) }
    }, 'Play')
    const link = h('a', { href: file.url, download: '', 'aria-label': `Download ${label}` }, 'Download')
    let pinned = false
    const pin = h('button', { type: 'button', onclick: () => this.togglePin(file.path, pinned) })
    cell.append(h('div.row.tight', {}, play_, pin, link))
    return next => {
      pinned = next.pinned
      const word = pinned ? 'Unpin' : 'Pin'
      say(pin, word)
      pin.setAttribute('aria-label', `${word} ${label}`)
      pin.hidden = this.isPinned() // with all of the torrent
    }
  }

  // Whether all of the torrent is pinned.
  isPinned () {
    return this.kept.whole
  }

  async togglePin (path, pinned) {
    if (await setPinned(path, !pinned)) attempt('Not looked at', () => this.lookAtFiles())
  }

  showPins (kept) {
    this.kept = kept
    this.pin.hidden = this.evict.hidden = this.torrent.path === null
    const word = this.isPinned() ? 'Unpin' : 'Pin'
    say(this.pin, word)
    this.pin.setAttribute('aria-label', `${word} all of it`)
    this.files.update(this.listed, 'They are known when its metadata is.')
    this.drawFacts(this.torrent)
  }

  async drop () {
    await evict(this.key)
    this.cacheSeen = undefined
    this.look()
  }

  pinned () {
    if (!this.kept.total) return 'no'
    const { total, pieces, missing, trouble } = this.kept
    const what = this.isPinned() ? 'all' : count(total, 'part')
    return `${what}, ${missing ? `${missing} of ${count(pieces, 'piece')} missing` : 'here'}${trouble && `: ${clean(trouble)}`}`
  }

  update (mount) {
    this.mount = mount
    const torrent = mount.torrents.get(this.key)
    if (!torrent) {
      this.gone()
      return
    }
    const before = this.torrent
    this.torrent = torrent
    say(this.heading, name(torrent))
    for (const part of [this.state, this.progress, this.pause]) part.update(torrent)
    this.mix.update(torrent.received)
    this.legend.update(torrent.received)
    say(this.rates, rates(torrent))
    say(this.trouble, clean(torrent.trouble))
    this.trouble.hidden = !torrent.trouble
    say(this.where, torrent.path === null ? 'Not in the mount yet' : `${mount.status.mountpoint}/${clean(torrent.path)}`)
    this.drawFacts(torrent)
    const changed = !before || before.pieces_have !== torrent.pieces_have || before.state !== torrent.state ||
      before.peers !== torrent.peers || before.path !== torrent.path
    if (changed || (this.stale && !this.looking)) this.look()
    this.showDetail(mount.detail?.key === this.key ? mount.detail : null)
  }

  drawFacts (torrent) {
    const facts = [
      ['Downloaded', size(torrent.downloaded)], ['Uploaded', size(torrent.uploaded)], ['Wasted', size(torrent.wasted)],
      ['Pieces', torrent.pieces ? `${torrent.pieces.toLocaleString()} of ${size(torrent.piece_length)}` : '–'],
      ['In the cache', this.cached === undefined ? '–' : size(this.cached)],
      ['Pinned', this.pinned()],
      ['Added', new Date(torrent.added * 1000).toLocaleString()],
      ['By', torrent.origin], ['Info-hash', torrent.key]
    ]
    const text = JSON.stringify(facts)
    if (text === this.factsText) return
    this.factsText = text
    this.facts.replaceChildren(...facts.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, value))))
  }

  showDetail (detail) {
    this.pieces.update(detail?.pieces ?? null)
    if (!detail || detail.gone) return
    this.peers.update(detail.peers, 'Nobody is connected.')
    this.noReads.hidden = detail.reads.length > 0
    if (this.player) this.player.onWaiting(detail.reads.find(read => read.path === this.player.path && read.since >= LONG)?.why)
    const lines = detail.reads.slice(0, 20).map(read =>
      [`${clean(this.inside(read.path))} at ${size(read.offset)}`, clean(read.why), read.since >= LONG, `piece ${read.piece}, for ${seconds(read.since)}`])
    while (this.reads.children.length > lines.length) this.reads.lastElementChild.remove()
    lines.forEach(([place, why, isLong, since], n) => {
      const item = this.reads.children[n] ??
        this.reads.appendChild(h('li', {}, h('strong', { dir: 'auto' }), h('span.why'), h('span.quiet', { 'aria-live': 'off' })))
      item.children[1].classList.toggle('long', isLong)
      ;[place, why, since].forEach((text, part) => say(item.children[part], text))
    })
  }

  async lookAtFiles () {
    const [files, kept] = await Promise.all([
      ask('GET', `${of(this.key)}/files?limit=${this.shown}`), ask('GET', `/pins?torrent=${this.key}`)
    ])
    if (this.closed) return
    this.listed = files.files
    this.more.hidden = files.total <= this.shown || this.shown >= MOST_FILES
    this.rest.hidden = files.total <= MOST_FILES
    say(this.rest, `${count(files.total, 'file')} in all: the first ${MOST_FILES.toLocaleString()} are shown here.`)
    this.showPins(kept)
  }

  // Files, trackers and cache use, which no event tells: when an event says that they may differ.
  async look () {
    if (this.looking || this.closed) {
      this.stale = true
      return
    }
    this.looking = true
    this.stale = false
    try {
      const [trackers] = await Promise.all([ask('GET', `${of(this.key)}/trackers`), this.lookAtFiles(), this.lookAtCache()])
      if (this.closed) return
      this.trackers.update(trackers.trackers, this.torrent.state === 'asleep' ? 'None is asked while it sleeps.' : 'It has none.')
    } catch {
      this.stale = true // removed meanwhile, or the connection is lost, which is told at the top
    }
    this.timer = setTimeout(() => {
      this.looking = false
      if (this.stale && !document.hidden) this.look()
    }, AGAIN)
  }

  async lookAtCache () {
    if (performance.now() < (this.cacheSeen ?? -Infinity) + CACHE_AGAIN) return
    this.cacheSeen = performance.now()
    const { torrents } = await ask('GET', '/cache').catch(() => ({ torrents: [] })) // a disk in trouble hides no files
    this.cached = torrents.find(torrent => torrent.key === this.key)?.used ?? 0
  }

  gone () {
    if (this.closed) return
    this.close()
    this.element.replaceChildren(
      h('p', {}, h('a', { href: '#/' }, '← All torrents')),
      h('h1', { tabIndex: -1 }, 'This torrent is not in the mount'),
      h('p', {}, 'It was removed, or it was never here.'))
  }

  close () {
    this.closed = true
    clearTimeout(this.timer)
    this.pieces.close()
  }
}
