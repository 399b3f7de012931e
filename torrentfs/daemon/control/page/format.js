// Numbers for people.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

export function size (bytes) {
  let unit = 0
  while (bytes >= 1024 && unit < UNITS.length - 1) { bytes /= 1024; unit++ }
  return `${unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${UNITS[unit]}`
}

export const rate = bytes => `${size(bytes)}/s`

// 100 % only when all of it is there.
export const percent = share => `${share >= 1 ? 100 : Math.min(99.9, Math.floor(share * 1000) / 10)} %`

export const count = (number, one, many = one + 's') => `${number.toLocaleString()} ${number === 1 ? one : many}`

export function seconds (time) {
  if (time < 90) return `${Math.round(time)} s`
  return time < 5400 ? `${Math.round(time / 60)} min` : `${Math.round(time / 3600)} h`
}
