// The mount as a whole: limits, the cache, and where it is.
import { ask } from './api.js'
import { clean, h, say } from './dom.js'
import { size } from './format.js'
import { attempt, tell } from './messages.js'
import { Table } from './tables.js'

const MIB = 1024 * 1024
const GIB = 1024 * MIB

const number = (id, label, properties) => {
  const input = h('input', { id, type: 'number', inputMode: 'decimal', ...properties })
  return [input, h('div.field', {}, h('label', { for: id }, label), input)]
}

export class Mount {
  constructor () {
    this.heading = h('h1', { tabIndex: -1 }, 'The mount')
    this.facts = h('dl.facts')
    this.trouble = h('p.bad')
    const [down, downField] = number('limit-down', 'Download, MiB/s (empty: no limit)', { min: 0, step: 'any' })
    const [up, upField] = number('limit-up', 'Upload, MiB/s (empty: no limit)', { min: 0, step: 'any' })
    const [active, activeField] = number('limit-active', 'Torrents with traffic at once', { min: 1, max: 10000, required: true })
    this.limits = { down, up, active }
    const form = h('form', {
      onsubmit: event => { event.preventDefault(); this.setLimits() },
      oninput: () => { this.touched = true }
    }, downField, upField, activeField, h('div.row', {}, h('button.primary', { type: 'submit' }, 'Set limits')),
    h('p.hint', {}, 'They hold until the mount ends.'))
    const [room, roomField] = number('prune', 'Shrink the cache to, GiB', { min: 0, step: 'any', required: true })
    const prune = h('form', {
      onsubmit: async event => {
        event.preventDefault()
        const done = await attempt('Not shrunk', () =>
          ask('POST', '/cache/prune', { json: { size: Math.round(room.valueAsNumber * GIB) } }))
        if (done) tell(`Freed ${size(done.freed)}`)
        this.look()
      }
    }, roomField, h('div.row', {}, h('button', { type: 'submit' }, 'Shrink')))
    this.used = h('progress', { max: 1, 'aria-label': 'Cache use' })
    this.usedWords = h('span.quiet')
    this.cacheTrouble = h('p.bad')
    this.uses = new Table('What is cached', [
      ['Torrent', use => clean(use.name) || use.key],
      ['On disk', use => size(use.used)],
      ['Here', use => use.listed ? 'in this mount' : 'not in this mount']
    ], use => use.key)
    this.element = h('article', {},
      h('p', {}, h('a', { href: '#/' }, '← All torrents')), this.heading, this.trouble, this.facts,
      h('section', { 'aria-labelledby': 'limits-title' }, h('h2', { id: 'limits-title' }, 'Limits'), form),
      h('section', { 'aria-labelledby': 'cache-title' }, h('h2', { id: 'cache-title' }, 'Cache'),
        h('div.progress', {}, this.used, this.usedWords), this.cacheTrouble, this.uses.element, prune))
    this.look()
  }

  async look () {
    const found = await attempt('The cache cannot be told', () => ask('GET', '/cache'))
    if (found) this.uses.update(found.torrents.slice(0, 100), 'Nothing is cached yet.')
  }

  async setLimits () {
    const { down, up, active } = this.limits
    const bytes = field => field.value === '' ? null : Math.round(field.valueAsNumber * MIB)
    const json = { download_limit: bytes(down), upload_limit: bytes(up), max_active: active.valueAsNumber }
    const done = await attempt('Limits not set', () => ask('PATCH', '/settings', { json }))
    if (done) {
      this.touched = false
      this.show(done)
      tell('Limits are set')
    }
  }

  show (limits) {
    if (this.touched) return // what is being typed stays
    const { down, up, active } = this.limits
    const fill = (field, value) => { if (field.value !== value) field.value = value }
    const mib = rate => rate === null ? '' : String(Math.round(rate / MIB * 1000) / 1000)
    fill(down, mib(limits.download_limit))
    fill(up, mib(limits.upload_limit))
    fill(active, String(limits.max_active))
  }

  update ({ status }) {
    this.show(status.limits)
    const { cache } = status
    this.used.value = cache.size ? Math.min(1, cache.used / cache.size) : 0
    say(this.usedWords, `${size(cache.used)} of ${size(cache.size)} in ${clean(cache.directory)}`)
    say(this.cacheTrouble, clean(cache.trouble))
    this.cacheTrouble.hidden = !cache.trouble
    say(this.trouble, clean(status.trouble))
    this.trouble.hidden = !status.trouble
    const facts = [
      ['Mounted at', status.mountpoint], ['Version', status.version],
      ['Since', new Date(status.started * 1000).toLocaleString()],
      ['Port for peers', status.port || 'none'],
      ['Downloaded', size(status.downloaded)], ['Uploaded', size(status.uploaded)], ['Wasted', size(status.wasted)],
      ['Memory of the cache', `${size(cache.memory)} of ${size(cache.memory_limit)}`],
      ...(status.proxy ? [['Proxy', clean(status.proxy)]] : [])
    ]
    const text = JSON.stringify(facts)
    if (text === this.factsText) return
    this.factsText = text
    this.facts.replaceChildren(...facts.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, String(value)))))
  }

  close () {}
}
